import re
from tests.web.test_playbook_pages import *
from tests.web.playbook_site import *
async def test_dbg(store):
    async with running_playbooks(store) as site:
        evil = (
        "name: retail\nextends: retail\nstages:\n"
        f"  placed: {{says: {{en: '{EVIL}', zh-CN: '{EVIL}'}}}}\n"
        f"note: '{EVIL}'\nwording:\n  en: {{texts: {{shipped: {{sms: ['{EVIL}']}}}}}}\n")
        page=await saved(site, evil); a=await activate(site,page)
        print(re.findall(r'class="note.*', a.text), re.findall(r'faults">(.*?)</ol', a.text, re.S))
        text = (
        "name: lane\nextends: base\nprincipal: buyer\n"
        "stages: {placed: {}, paid: {}, %s: {}, done: {light: green}, cancelled: {light: green, end: true}}\n"
        "rules:\n  - {on: payment.succeeded, stage: paid}\n  - {on: parcel.packed, stage: %s}\n"
        "  - {on: order.cancelled, stage: cancelled}\n  - {on: order.completed, stage: done}\n")
        page=await saved(site, text%("boxed","boxed"), "lane")
        print(re.findall(r'faults">(.*?)</ol', page, re.S))
        for number in range(3):
            await site.tell("order.placed", f"A{number}", people=people(), title=EVIL)
            await site.tell("payment.succeeded", f"A{number}")
            await site.tell("parcel.shipped", f"A{number}", tracking_no="SF1", carrier="SF")
        page=await saved(site, DRAFT)
        page = await tried(site)
        print(re.sub(r"<[^>]+>|\n+", " ", page.split('id="trial-now"')[1])[:1500])
    assert 0
