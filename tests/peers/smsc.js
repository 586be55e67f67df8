// An SMSC made of the npm package `smpp`: takes one account, answers with numbers in hexadecimal, and brings a receipt
// with the decimal number and a long reply. Prints its port, then one JSON line for each thing it was brought.
"use strict";

const smpp = require("smpp");

const tell = (what) => console.log(JSON.stringify(what));
let number = 0xa0;

const server = smpp.createServer((session) => {
  const bind = (pdu) => {
    if (pdu.system_id !== "orderbell" || pdu.password !== "dingdong") {
      session.send(pdu.response({ command_status: smpp.ESME_RINVPASWD }));
      return;
    }
    session.send(pdu.response({ system_id: "NODE" }));
    tell({ bound: pdu.command });
  };
  session.on("bind_transmitter", bind);
  session.on("bind_transceiver", bind);
  session.on("enquire_link", (pdu) => session.send(pdu.response()));
  session.on("unbind", (pdu) => {
    session.send(pdu.response());
    session.close();
  });
  session.on("error", () => session.destroy());
  session.on("deliver_sm_resp", (pdu) => tell({ stored: pdu.command_status }));
  session.on("submit_sm", (pdu) => {
    const text = pdu.short_message.message;
    tell({
      to: pdu.destination_addr,
      source: pdu.source_addr,
      coding: pdu.data_coding,
      esm_class: pdu.esm_class,
      udh: pdu.short_message.udh ? pdu.short_message.udh.map((element) => element.toString("hex")) : [],
      text: Buffer.isBuffer(text) ? text.toString("hex") : text,
      validity: pdu.validity_period instanceof Date,
      registered: pdu.registered_delivery,
    });
    if (text === "slow down") {
      session.send(pdu.response({ command_status: smpp.ESME_RTHROTTLED }));
      return;
    }
    const mine = ++number;
    session.send(pdu.response({ message_id: mine.toString(16) }));
    if (!pdu.registered_delivery) return;
    session.deliver_sm({
      source_addr: pdu.destination_addr,
      destination_addr: pdu.source_addr,
      esm_class: 4,
      receipted_message_id: String(mine),
      message_state: 2,
      short_message: `id:${mine} sub:001 dlvrd:001 submit date:2611220102 done date:261122010203 stat:DELIVRD err:000 text:`,
    });
    const long = "收到，谢谢！".repeat(15);
    const parts = [long.slice(0, 67), long.slice(67)];
    parts.forEach((part, index) =>
      session.deliver_sm({
        source_addr: pdu.destination_addr,
        source_addr_ton: 1,
        destination_addr: pdu.source_addr,
        data_coding: 8,
        esm_class: 0x40,
        short_message: { udh: Buffer.from([5, 0, 3, 9, 2, index + 1]), message: part },
      }),
    );
  });
});

server.listen(0, "127.0.0.1", () => tell({ port: server.address().port }));
