const field=document.getElementById('ask'),hits=[...document.querySelectorAll('.hit')],sections=[...document.querySelectorAll('section')];
const texts=hits.map(h=>((h.id||'')+' '+h.textContent).toLowerCase());
function find(){const words=field.value.toLowerCase().split(/\s+/).filter(Boolean);let any=false;
hits.forEach((h,i)=>{const ok=words.every(w=>texts[i].includes(w));h.hidden=!ok;any=any||ok});
for(const s of sections)s.hidden=words.length>0&&!s.querySelector('.hit:not([hidden])');
document.getElementById('none').hidden=any}
field.addEventListener('input',find);
addEventListener('hashchange',()=>{field.value='';find();
const at=document.getElementById(decodeURIComponent(location.hash.slice(1)));if(at)at.scrollIntoView()});
find();
