import asyncio
from datetime import timedelta
from playwright.async_api import async_playwright
from orderbell.store.ledger import Ledger, Standing
from orderbell.web.signed_in import COOKIE
from tests.town import people
from tests.web.playbook_site import *
from tests.web.test_playbook_pages import saved, tried, activate
DRAFT = "# 发货通知更快，并换一句话\nname: retail\nextends: retail\nnotices:\n  shipped: {within: 6m, channels: [inbox], also: []}\nwording:\n  zh-CN:\n    texts:\n      shipped:\n        sms: ['您的订单{order_no}已经上路啦，请留意电话。']\n"
async def test_shots(store):
    async with running_playbooks(store) as site:
        for n in range(12):
            await site.tell("order.placed", f"A{n}", people={"buyer":{"id":f"p{n%5}","phone":f"+861380013800{n%5}"}}, title="羊毛围巾", amount_fen=19900)
            await site.tell("payment.succeeded", f"A{n}")
            if n%2: await site.tell("parcel.shipped", f"A{n}", tracking_no="SF1", carrier="SF")
        await activate(site, await saved(site, DRAFT.split("notices")[0]))
        await saved(site, DRAFT)
        await tried(site)
        await site.save("name: digital\nextends: digital\nstages:\n  lost: {}\nnotices:\n  key_issued: {within: 2 days}\n", "digital")
        ledger, now = Ledger(store), site.clock()
        w = await ledger.take_lease("w1", timedelta(hours=1))
        await ledger.put_standings(w, [Standing("ali","half_open","failures","timeout after 10 s", now+timedelta(seconds=30))], now)
        await store.pool.execute("INSERT INTO tally VALUES ('ali', $1, 1000, 0, 981, 1818)", now - timedelta(minutes=5))
        await store.pool.execute("INSERT INTO template (provider, digest, text, names, marketing, state) VALUES ('ali','x','x','{}',false,'approved'),('ali','y','y','{}',false,'rejected')")
        await ledger.halt("moving house", now)
        async with async_playwright() as p:
            b = await p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for width in (1280, 390):
                c = await b.new_context(viewport={"width": width, "height": 900}, extra_http_headers={"cookie": f"{COOKIE}=owner.acme", "accept-language": "zh" if width==1280 else "en"})
                pg = await c.new_page()
                logs=[]
                pg.on("console", lambda m: logs.append(m.text)); pg.on("pageerror", lambda e: logs.append(str(e)))
                for name, path in {"list":"/console/playbook","rules":"/console/playbook/retail","texts":"/console/playbook/retail/texts?topic=parcel_lost","versions":"/console/playbook/retail/versions","draft":"/console/playbook/retail/draft","faults":"/console/playbook/digital/draft","providers":"/console/providers","glossary":"/console/glossary?q=回执"}.items():
                    await pg.goto(site.url+path); await pg.wait_for_timeout(600)
                    w_ = await pg.evaluate("document.documentElement.scrollWidth")
                    if w_ > width: print(await pg.evaluate("[...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll')).slice(0,6).map(e => e.tagName+'.'+e.className+' '+e.textContent.slice(0,60)).join(' || ')"))
                    if name == "rules": await pg.screenshot(path=f"/tmp/ob/f_rtop_{width}.png", clip={"x":0,"y":0,"width":width,"height":1500}, full_page=True)
                    if name == "rules": await pg.screenshot(path=f"/tmp/ob/f_rmid_{width}.png", clip={"x":0,"y":3300,"width":width,"height":1500}, full_page=True)
                    await pg.screenshot(path=f"/tmp/ob/f_{name}_{width}.png", full_page=True)
                    print(name, width, w_, logs); logs.clear()
            await b.close()
    assert 0
