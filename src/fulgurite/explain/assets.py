"""The page's style and script, written out."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2127;--soft:#5b6670;--paper:#fdfdfc;--card:#fff;--line:#dcdfe3;--blue:#1f5fa8;--warm:#9a4b00}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7ea;--soft:#9aa5af;--paper:#15181b;--card:#1c2024;--line:#343a41;--blue:#7db4f0;--warm:#f0a860}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
header,main{max-width:68rem;margin:auto;padding:1rem}
header{position:relative}
h1{font-size:1.5rem;margin:.5rem 5rem .5rem 0}
h2{font-size:1.3rem;margin:2.5rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
h3{font-size:1rem;margin:1rem 0 .25rem}
.language{position:absolute;right:1rem;top:1.6rem}
a{color:var(--blue)}
code{font:.92em ui-monospace,monospace}
small{color:var(--soft);font-weight:400}
input{width:100%;font:inherit;padding:.6rem .8rem;border:1px solid var(--line);border-radius:.4rem;background:var(--card);color:inherit}
nav{display:flex;flex-wrap:wrap;gap:.3rem 1rem;margin:.8rem 0}
table{border-collapse:collapse;width:100%;margin:.5rem 0 1rem}
th,td{text-align:left;vertical-align:top;padding:.45rem .9rem .45rem 0;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:500;font-size:.9rem}
td:last-child{width:30%;color:var(--soft)}
article{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.2rem 1rem .8rem;margin:.8rem 0}
article p{margin:.3rem 0 .6rem}
article:target{border-color:var(--blue)}
dl{display:grid;grid-template-columns:7rem 1fr;gap:.15rem 1rem;margin:0;font-size:.93rem}
dt{color:var(--soft)}dd{margin:0;min-width:0;overflow-wrap:anywhere}
pre{margin:0;overflow-x:auto;font:.82rem/1.4 ui-monospace,monospace}
.wrong{color:var(--warm);margin:.4rem 0 0}
.misread li{margin:.3rem 0}
.curves{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));gap:.8rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.5rem}
figcaption{text-align:center;font:.85rem ui-monospace,monospace}
svg{width:100%;display:block}svg text{font:11px ui-monospace,monospace;fill:var(--soft)}
polyline{fill:none;stroke:var(--blue);stroke-width:2}
.axis{fill:none;stroke:var(--line)}.zero{stroke:var(--soft);stroke-dasharray:3 4}
[hidden]{display:none!important}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.3rem}td:last-child{width:auto}}
"""

SCRIPT = """
const field=document.getElementById('ask'),hits=[...document.querySelectorAll('.hit')],sections=[...document.querySelectorAll('section')];
const texts=hits.map(h=>((h.id||'')+' '+h.textContent).toLowerCase());
function find(){const words=field.value.toLowerCase().split(/\\s+/).filter(Boolean);let any=false;
hits.forEach((h,i)=>{const ok=words.every(w=>texts[i].includes(w));h.hidden=!ok;any=any||ok});
for(const s of sections)s.hidden=words.length>0&&!s.querySelector('.hit:not([hidden])');
document.getElementById('none').hidden=any}
field.addEventListener('input',find);
addEventListener('hashchange',()=>{field.value='';find();
const at=document.getElementById(decodeURIComponent(location.hash.slice(1)));if(at)at.scrollIntoView()});
find();
"""
