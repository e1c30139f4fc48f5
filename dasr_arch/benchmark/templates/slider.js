(function () {
  'use strict';
  var box = document.getElementById('compare');
  if (!box) { return; }
  var state = { image: box.dataset.image, degradation: box.dataset.degradation, network: box.dataset.network,
    against: box.dataset.against };
  var under = box.querySelector('.under'), over = box.querySelector('.over'), bar = box.querySelector('.divider');
  var range = box.querySelector('.slider'), viewer = box.querySelector('.viewer');
  var left = box.querySelector('.tag.left'), right = box.querySelector('.tag.right');
  function find(network) {
    var all = document.querySelectorAll('img[data-network]');
    for (var i = 0; i < all.length; i += 1) {
      var data = all[i].dataset;
      if (data.network === network && data.image === state.image && data.degradation === state.degradation) {
        return all[i];
      }
    }
    return null;
  }
  function place() {
    over.style.clipPath = 'inset(0 0 0 ' + range.value + '%)';
    bar.style.left = range.value + '%';
  }
  function show() {
    var first = find(state.network), second = find(state.against);
    if (!first || !second) { return; }
    under.src = first.src;
    over.src = second.src;
    left.textContent = first.dataset.caption;
    right.textContent = second.dataset.caption;
    under.alt = first.alt;
    over.alt = second.alt;
    box.querySelectorAll('button').forEach(function (button) {
      button.setAttribute('aria-pressed', String(state[button.dataset.kind] === button.dataset.value));
    });
  }
  box.querySelectorAll('button').forEach(function (button) {
    button.addEventListener('click', function () { state[button.dataset.kind] = button.dataset.value; show(); });
  });
  range.addEventListener('input', place);
  viewer.addEventListener('pointermove', function (event) {
    var frame = viewer.getBoundingClientRect();
    range.value = String(Math.max(0, Math.min(100, 100 * (event.clientX - frame.left) / frame.width)));
    place();
  });
  box.hidden = false;
  show();
  place();
}());
