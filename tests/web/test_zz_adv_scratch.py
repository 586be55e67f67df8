import re, pytest, sys
from urllib.parse import quote, urlencode
import httpx, msgspec
from orderbell.store.keys import create_key
from tests.web.test_rights import running_rig, SAFE, _doors
from tests.web.front_site import Browser
NASTY = ["\0", "a\0b", "99999999999999999999999", "-1", "\u202e<x>", "'\"><script>", "%00", "a"*5000, "中文", "[", "//evil.com", "http://[", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "٣", "\x85\u2028"]
class D:
    pass
async def raw(front, method, url, headers, content=None):
    try:
        async with front.http.stream(method, url, headers=headers, content=content) as answer:
            if answer.headers.get("content-type","").startswith("text/event-stream"):
                return answer.status_code, "", answer.headers
            return answer.status_code, (await answer.aread()).decode("utf-8","replace"), answer.headers
    except httpx.InvalidURL: return 0, '', {}
    except httpx.HTTPError as e:
        return 599, repr(e), {}
FIELDS = "q light stage anomaly playbook after show state channel topic provider day order_no seen since before actor action lang done id no tone locale shop next token v ask option days price version text fate kind owner limit opened_from created_from contact phone role old new hook".split()
FORM = "name password code next token shop current again locale secret role scope label color phone website tenant url type leaked body expected version sure seen days ask option price address frequency quiet marketing category mute id no order on".split()
async def test_fuzz(store):
    async with running_rig(store) as rig:
        front = rig.front
        bad = {}
        key = await create_key(store.pool, "other")
        owner = await front.person("own", "owner", "other")
        doors = [d for d in rig.doors]
        # headers
        for path in ("/", "/sign-in", "/console", "/track", "/t/"+"a"*22, "/nothing", "//evil.com/x", "/enter/x", "/setup", "/l/"+"a"*22, "/v1/orders", "/docs", "/metrics", "/u/x"):
            for hh in ({"host": "["}, {"host":""}, {"host": "evil.com:99999"}, {"host":"a b"}, {"hx-request":"true","hx-current-url":"http://["}, {"cookie":"a=b; =; ;;\"; __Host-orderbell=\xff"}, {"cookie": "__Host-orderbell="+"é"*43}, {"accept-language":"\xff,;q"}, {"origin":"http://["}, {"authorization":"Bearer \xe9\xe9"}, {"x-forwarded-for":"[,"} , {"last-event-id":"x"}, {"content-type":"multipart/form-data"}, {"sec-fetch-site":""}):
                for method in ("GET","POST"):
                    h2 = {"accept":"text/html","sec-fetch-site":"same-origin", **hh}
                    h2 = {k.encode(): v.encode("latin-1") for k,v in h2.items()}
                    try:
                        r = await front.http.request(method, front.url + path, headers=h2)
                    except Exception as e:
                        print("HDR-EXC", method, path, hh, repr(e)); continue
                    if r.status_code >= 500: print("HDR", method, path, hh, r.status_code)
                    if "evil.com" in r.text: print("EVIL", method, path, hh, re.findall(r'.{30}evil\.com.{30}', r.text)[:3])
        print('HEADERS DONE',flush=True)
        for d in doors:
            for n in NASTY:
                b = front.browser()
                b.cookies["__Host-orderbell"] = await front.sessions.open(owner, tenant="other") or ""
                b.headers["accept"] = "text/html"
                h = {**b.headers, "cookie": "; ".join(f"{k}={v}" for k,v in b.cookies.items())}
                if d.keyed: h = {"authorization": f"Bearer {key}"}
                variants = []
                good = re.sub(r"\{(\w+)(:\w+)?\}", lambda f: rig.ids[f[1]], d.path)
                if d.parameters:
                    for p in d.parameters:
                        variants.append((re.sub(r"\{(\w+)(:\w+)?\}", lambda f: quote(n, safe="") if f[1]==p else rig.ids[f[1]], d.path), None))
                if d.method in SAFE:
                    variants.append((good + "?" + urlencode({f: n for f in FIELDS if f!="lang"}), None))
                    if n in NASTY[:6]:
                        for f in FIELDS: variants.append((good + "?" + urlencode({f: n}), None))
                else:
                    if d.keyed:
                        variants.append((good, msgspec.json.encode({f: n for f in (*FORM, *FIELDS, "text","types","overlap_s","expected_version")})))
                        variants.append((good, n.encode()))
                    else:
                        variants.append((good, urlencode({f: n for f in FORM}).encode()))
                        variants.append((good, urlencode({**rig.ids, **{f: n for f in FORM}, "seen": n, "name":"ann"}).encode()))
                for url, content in variants:
                    hh = dict(h)
                    if content is not None:
                        hh["content-type"] = "application/json" if d.keyed else "application/x-www-form-urlencoded"
                    s, t, head = await raw(front, d.method, url, hh, content)
                    if s >= 500 and s != 503 or s == 599:
                        (print('BAD',str(d),s,repr(n),url[-100:],t[:100] if s==599 else '',flush=True) if len(bad.get((str(d),s),[]))<2 else None, bad.setdefault((str(d), s), []))[1].append((n, url[-120:], t[:120] if s==599 else ""))
        for k, v in bad.items(): print("BAD", k, len(v), v[:3])
