// Colours as the system has them, or light, or dark; chosen before the page is drawn so that nothing flashes.
'use strict';
(() => {
  const choices = ['system', 'light', 'dark'];
  let choice = 'system';
  try { choice = localStorage.getItem('theme') || 'system'; } catch { /* no storage: the system's */ }
  const apply = () => {
    if (choice === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    const button = document.getElementById('theme');
    if (button) {
      const text = { system: 'Colours: as the system', light: 'Colours: light', dark: 'Colours: dark' }[choice];
      button.title = text;
      button.setAttribute('aria-label', text);
    }
  };
  apply();
  document.addEventListener('DOMContentLoaded', () => {
    apply();
    document.getElementById('theme')?.addEventListener('click', () => {
      choice = choices[(choices.indexOf(choice) + 1) % choices.length];
      try { localStorage.setItem('theme', choice); } catch { /* kept until the page is closed */ }
      apply();
    });
  });
})();
