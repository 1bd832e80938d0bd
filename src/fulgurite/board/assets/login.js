// A link on another page brings no cookie along (SameSite=Strict), although this browser may have one. This page's own
// requests do, so that it asks once and opens the board. The mark prevents a loop.
const has = name => sessionStorage.getItem(name) !== null;
if (!has('login-tried')) {
  sessionStorage.setItem('login-tried', '1');
  fetch('/api/texts', { method: 'HEAD' }).then(answer => { if (answer.ok) location.replace('/'); });
} else {
  sessionStorage.removeItem('login-tried');
}

document.getElementById('login')?.addEventListener('submit', async event => {
  event.preventDefault();
  const field = document.getElementById('password');
  const answer = await fetch(`/api/login?lang=${document.documentElement.lang}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ password: field.value }),
  });
  if (answer.ok) {
    location.replace('/');
    return;
  }
  document.getElementById('answer').textContent = (await answer.json()).error;
  field.select();
});
