// A region that scrolls needs the focus, so that the keyboard can scroll it.
function update() {
  for (const region of document.querySelectorAll("pre, div.scroll")) {
    if (region.scrollWidth > region.clientWidth) region.tabIndex = 0;
    else region.removeAttribute("tabindex");
  }
}
addEventListener("load", update);
addEventListener("resize", update);
