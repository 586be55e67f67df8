// A customer of an SMSC made of the npm package `smpp`: binds with a wrong password and with the right one, submits a
// message, waits for its receipt and for one reply, and prints one JSON line for each thing it learns.
"use strict";

const smpp = require("smpp");

const tell = (what) => console.log(JSON.stringify(what));
const connect = (then) => {
  const session = smpp.connect({ host: "127.0.0.1", port: Number(process.argv[2]) });
  session.on("error", () => session.destroy());
  session.on("connect", () => then(session));
  return session;
};

const submit = () =>
  connect((session) => {
    let awaited = 2;
    session.on("deliver_sm", (pdu) => {
      tell({ kind: pdu.esm_class, from: pdu.source_addr, text: pdu.short_message.message, ref: pdu.receipted_message_id });
      session.send(pdu.response());
      if (--awaited === 0) session.unbind(() => session.close());
    });
    session.bind_transceiver({ system_id: "orderbell", password: "dingdong" }, (bound) => {
      tell({ bind: bound.command_status });
      const message = { source_addr: "1065", destination_addr: "8613800138000", short_message: "您的订单已发货" };
      session.submit_sm({ ...message, registered_delivery: 1 }, (answer) =>
        tell({ submit: answer.command_status, ref: answer.message_id }),
      );
    });
  });

connect((session) =>
  session.bind_transceiver({ system_id: "orderbell", password: "wrong" }, (answer) => {
    tell({ bind: answer.command_status });
    session.close(submit);
  }),
);
