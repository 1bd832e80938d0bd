document.documentElement.classList.add('scripted');
const $=id=>document.getElementById(id),stored=JSON.parse($('answers').textContent);
// The first screen: three radio groups choose an answer, whose pieces are in the page already.
const form=document.querySelector('.ask'),slots=[...document.querySelectorAll('[data-slot]')];
function answer(){const f=new FormData(form),n=stored.answers[f.get('data')][f.get('machine')][f.get('size')].map(i=>stored.pieces[i]);
[n[0],n[1],n[2].replace('§',()=>n[3])+n[4]+n[5]].forEach((html,i)=>{slots[i].innerHTML=html});
document.querySelectorAll('[data-words]').forEach(s=>{s.innerHTML=n[6]})}
form.addEventListener("change",answer);addEventListener("pageshow",answer);
addEventListener('click',e=>{const b=e.target.closest('.copy button');if(!b)return;const pre=b.previousElementSibling,range=document.createRange();
range.selectNodeContents(pre);getSelection().removeAllRanges();getSelection().addRange(range);
if(navigator.clipboard)navigator.clipboard.writeText(pre.textContent).then(()=>{b.textContent='✓';setTimeout(()=>{b.textContent=b.dataset.was},900)});
b.dataset.was=b.dataset.was||b.textContent});
// Search: every word must occur; names count more than texts.
const field=$('ask'),clean=s=>s.toLowerCase().replace(/[-\s]+/g,' ').trim();
const items=[...document.querySelectorAll('.hit')].map(h=>{const group=h.classList.contains('group'),head=h.querySelector('summary,h4');
const title=(head.querySelector('b,h3')||head).textContent.trim(),path=h.id,alias=(h.dataset.names||'').split('|').filter(Boolean);
return{h,title,path,alias,names:clean([title,path,...alias].join(' ')),text:clean((group?head:h).textContent),body:h.querySelector('p')?.textContent||''}});
const parts=s=>clean(s).split(' ').filter(Boolean);
function score(item,words,whole){const exact=n=>clean(n).replace(/_/g,' ')===whole;
let sum=[item.title,item.path,item.path.split(/[.=]/).pop()].some(exact)?20*words.length:item.alias.some(exact)?15*words.length:0;for(const w of words){const bare=w.replace(/_/g,' ');
const list=item.names.split(' ');
if(list.includes(w))sum+=8;else if(list.some(n=>n.startsWith(w)))sum+=5;else if(item.names.includes(w)||item.names.replace(/[_.]/g,' ').includes(bare))sum+=4;
else if(item.text.includes(w)||item.text.replace(/[_.]/g,' ').includes(bare))sum+=1;else return 0}
return sum/words.length+(/^[a-z_.]+$/.test(item.path)?3:0)}
const pairs=s=>{const t=' '+s.replace(/[_.]/g,' ')+' ',out=new Map();for(let i=0;i<t.length-1;i++){const p=t.slice(i,i+2);out.set(p,(out.get(p)||0)+1)}return out};
function alike(a,b){const x=pairs(a),y=pairs(b);let both=0,all=0;x.forEach((n,p)=>{both+=Math.min(n,y.get(p)||0);all+=n});y.forEach(n=>all+=n);return 2*both/all}
function near(text){const out=[];for(const i of items){const names=[i.title,i.path.split(/[.=]/).pop(),...i.alias].map(clean).filter(Boolean);
const best=Math.max(...names.map(n=>alike(text,n)));if(best>=.62)out.push([best,i])}return out.sort((a,b)=>b[0]-a[0]).slice(0,3)}
function show(list){$('hits').replaceChildren(...list.map(([,i])=>{const li=document.createElement('li'),a=document.createElement('a'),c=document.createElement('code'),s=document.createElement('small');
a.href='#';a.dataset.index=items.indexOf(i);a.append(i.title.trim()+' ');c.textContent=i.path;if(i.title.trim()!==i.path)a.append(c);s.textContent=i.body.length>150?i.body.slice(0,150)+'…':i.body;a.append(s);li.append(a);return li}))}
function find(){const words=parts(field.value),whole=clean(field.value).replace(/_/g,' ');$('found').hidden=!words.length;if(!words.length)return;
let list=items.map(i=>[score(i,words,whole),i]).filter(p=>p[0]>0).sort((a,b)=>b[0]-a[0]).slice(0,30);
const guess=list.length?[]:near(clean(field.value));$('near').hidden=!guess.length;$('none').hidden=!!(list.length||guess.length);show(list.length?list:guess)}
function open(el){for(let d=el;d;d=d.parentElement)if(d.tagName==='DETAILS')d.open=true;el.scrollIntoView()}
$('hits').addEventListener('click',e=>{const a=e.target.closest('a');if(!a)return;e.preventDefault();const i=items[a.dataset.index];field.value='';find();
if(i.path)history.pushState(null,'','#'+i.path);open(i.h);i.h.querySelector('summary')?.focus({preventScroll:true})});
field.addEventListener('input',find);
field.addEventListener('keydown',e=>{if(e.key==='Escape'){field.value='';find()}if(e.key==='Enter'){e.preventDefault();$('hits').querySelector('a')?.click()}
if(e.key==='ArrowDown'){e.preventDefault();$('hits').querySelector('a')?.focus()}});
$('hits').addEventListener('keydown',e=>{const li=document.activeElement.parentElement,to={ArrowDown:li?.nextElementSibling,ArrowUp:li?.previousElementSibling}[e.key];
if(to){e.preventDefault();to.firstElementChild.focus()}else if(e.key==='Escape'||e.key==='ArrowUp')field.focus()});
addEventListener('keydown',e=>{if(e.key==='/'&&!e.ctrlKey&&!e.metaKey&&!/INPUT|TEXTAREA/.test(document.activeElement.tagName)){e.preventDefault();field.focus();field.select()}});
function go(){const el=$(decodeURIComponent(location.hash.slice(1)));if(el)open(el)}
addEventListener('hashchange',go);addEventListener('click',e=>{const a=e.target.closest('a[href^="#"]');if(a&&a.hash===location.hash&&!a.dataset.index)go()});
if(location.hash)go();
