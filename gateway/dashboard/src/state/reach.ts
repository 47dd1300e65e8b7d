// What scrolls sideways can be reached with Tab, so that the arrow keys scroll it.

/** For `use:`. */
export function reach(node: HTMLElement) {
  const look = () => {
    if (node.scrollWidth > node.clientWidth + 1) node.tabIndex = 0;
    else node.removeAttribute('tabindex');
  };
  const observer = new ResizeObserver(look);
  observer.observe(node);
  if (node.firstElementChild) observer.observe(node.firstElementChild);
  return { destroy: () => observer.disconnect() };
}
