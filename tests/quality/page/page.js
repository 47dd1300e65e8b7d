// Whatever is pointed at that carries a name is followed on the whole page.
const named = [...document.querySelectorAll('[data-name]')];
const follow = name => {
  document.body.classList.toggle('following', Boolean(name));
  for (const one of named) one.classList.toggle('followed', one.dataset.name === name);
};
document.addEventListener('pointerover', event => follow(event.target.closest('[data-name]')?.dataset.name));
