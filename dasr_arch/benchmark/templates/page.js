(function () {
  'use strict';
  var state = { dataset: null, metric: null, published: 'shown' };
  function each(selector, action) { Array.prototype.forEach.call(document.querySelectorAll(selector), action); }
  function number(cell, metric) {
    var text = metric && cell.dataset['v' + metric] !== undefined ? cell.dataset['v' + metric] : cell.dataset.value;
    return text === undefined || text === '' ? null : parseFloat(text);
  }
  function show() {
    each('[data-dataset]', function (part) { part.hidden = part.dataset.dataset !== state.dataset; });
    each('[data-only]', function (part) { part.hidden = part.dataset.only !== state.metric; });
    each('tr.published', function (row) { row.hidden = state.published !== 'shown'; });
    each('.published-group', function (group) { group.hidden = state.published !== 'shown'; });
    each('td[data-m0]', function (cell) {
      cell.textContent = cell.dataset['m' + state.metric] || '\u2013';
      cell.className = cell.dataset['c' + state.metric] || '';
    });
    each('#controls button', function (button) {
      button.setAttribute('aria-pressed', String(state[button.dataset.kind] === button.dataset.value));
    });
  }
  function sort(head) {
    var table = head.closest('table'), index = Array.prototype.indexOf.call(head.parentNode.children, head);
    var down = head.getAttribute('aria-sort') !== 'descending';
    Array.prototype.forEach.call(head.parentNode.children, function (other) { other.removeAttribute('aria-sort'); });
    head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
    Array.prototype.forEach.call(table.tBodies, function (body) {
      var rows = Array.prototype.filter.call(body.rows, function (row) { return !row.classList.contains('group'); });
      rows.sort(function (first, second) {
        var a = first.cells[index], b = second.cells[index], order;
        if (head.dataset.sort === 'text') {
          order = b.textContent.localeCompare(a.textContent);
        } else {
          var x = number(a, state.metric), y = number(b, state.metric);
          if (x === null || y === null) { return (x === null) - (y === null); }
          order = y - x;
        }
        return down ? order : -order;
      });
      rows.forEach(function (row) { body.appendChild(row); });
    });
  }
  each('th[data-sort]', function (head) {
    head.tabIndex = 0;
    head.addEventListener('click', function () { sort(head); });
    head.addEventListener('keydown', function (event) {
      if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); sort(head); }
    });
  });
  each('#controls button', function (button) {
    var kind = button.dataset.kind;
    if (state[kind] === null) { state[kind] = button.dataset.value; }
    button.addEventListener('click', function () {
      state[kind] = kind === 'published' && state[kind] === 'shown' ? 'left out' : button.dataset.value;
      show();
    });
  });
  each('.crop-block', function (block) {
    var buttons = block.querySelectorAll('button'), grids = block.querySelectorAll('.crops');
    function choose(value) {
      Array.prototype.forEach.call(grids, function (grid) { grid.hidden = grid.dataset.degradation !== value; });
      Array.prototype.forEach.call(buttons, function (button) {
        button.setAttribute('aria-pressed', String(button.dataset.value === value));
      });
    }
    Array.prototype.forEach.call(buttons, function (button) {
      button.addEventListener('click', function () { choose(button.dataset.value); });
    });
    block.querySelector('.choices').hidden = false;
    choose(block.dataset.first);
  });
  each('.crops figure[data-swap]', function (figure) {
    var image = figure.querySelector('img'), own = image.src;
    var truth = figure.parentNode.querySelector('.truth img');
    figure.addEventListener('pointerenter', function () { image.src = truth.src; });
    figure.addEventListener('pointerleave', function () { image.src = own; });
  });
  var controls = document.getElementById('controls');
  controls.hidden = false;
  show();
}());
