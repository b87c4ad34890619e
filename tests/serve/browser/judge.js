// Looks over the page as it is and returns what is wrong with it, in words.
() => {
  const faults = [];
  const brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

  // Whatever a colour is written as, red, green, blue and alpha from 0 to 1.
  const channels = (color) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = color;
    brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
  };
  const luminance = ([red, green, blue]) => {
    const linear = [red, green, blue].map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const background = channels(getComputedStyle(at).backgroundColor);
      if (background[3] > 0.99) return background;
    }
    return [1, 1, 1, 1];
  };
  const contrast = (one, other) => {
    const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (light + 0.05) / (dark + 0.05);
  };
  const isSeen = (element) => {
    const box = element.getBoundingClientRect();
    return element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) && box.width > 1 && box.height > 1;
  };
  const named = (element) => {
    const text = (id) => document.getElementById(id)?.textContent ?? "";
    const label = element.getAttribute("aria-label") ?? element.getAttribute("aria-labelledby")?.split(" ").map(text).join(" ");
    return (label ?? [...(element.labels ?? [])].map((one) => one.textContent).join(" ") + element.textContent).trim();
  };
  const where = (element) => `${element.tagName.toLowerCase()}.${element.className} "${element.textContent.trim().slice(0, 30)}"`;

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const judged = new Set();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || judged.has(element) || !isSeen(element)) continue;
    judged.add(element);
    if (element.closest("[disabled], .is-leaving, noscript")) continue;
    const style = getComputedStyle(element);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
    const has = contrast(channels(style.color), behind(element));
    if (has < least) faults.push(`contrast ${has.toFixed(2)} of ${where(element)}`);
  }

  for (const control of document.querySelectorAll("a[href], button, input, select, textarea, summary, [role=application], [role=progressbar], [role=img], svg[role]")) {
    if (isSeen(control) && !named(control)) faults.push(`no name: ${where(control)}`);
  }
  for (const canvas of document.querySelectorAll("canvas")) {
    if (!canvas.closest("[aria-hidden=true]") && !canvas.getAttribute("aria-label")) faults.push("a canvas says nothing");
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) faults.push(`id twice: ${id}`);
  for (const wanted of ["main", "nav[aria-label]", "header", "h1"]) {
    if (document.querySelectorAll(wanted).length !== 1) faults.push(`not one ${wanted}`);
  }
  let level = 0;
  for (const heading of document.querySelectorAll("main :is(h1, h2, h3, h4)")) {
    const own = Number(heading.tagName[1]);
    if (own > level + 1) faults.push(`heading skips a level: ${where(heading)}`);
    level = own;
  }
  if (!document.documentElement.lang || !document.title) faults.push("no language or no title");
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) faults.push(`scrolls sideways by ${wide} pixels`);
  return faults;
}
