// Sends the token and says in words if it is wrong.
'use strict';
document.querySelector('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const alert = document.querySelector('.alert');
  let message = 'The server does not answer.';
  try {
    const response = await fetch('login', { method: 'POST', body: new FormData(event.target) });
    if (response.ok) { location.replace('./'); return; }
    message = (await response.json()).detail;
  } catch { /* the message says it */ }
  alert.querySelector('span').textContent = `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
  alert.hidden = false;
});
