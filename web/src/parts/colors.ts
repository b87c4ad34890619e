let probe: HTMLElement | null = null;

/** What a custom property is just now, as `rgb(...)`: canvases cannot read `light-dark()`. */
export function color(property: string): string {
  if (!probe) {
    probe = document.createElement("i");
    probe.hidden = true;
    document.body.append(probe);
  }
  probe.style.color = `var(${property})`;
  return getComputedStyle(probe).color;
}

/** Red, green and blue of such a colour, from 0 to 255. */
export function channels(property: string): [number, number, number] {
  const [red = 0, green = 0, blue = 0] = color(property).match(/[\d.]+/g)?.map(Number) ?? [];
  return [red, green, blue];
}
