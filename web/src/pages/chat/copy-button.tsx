import { useState } from "preact/hooks";

const SHOWN_MS = 1500;

export function CopyButton({ text, what }: { text: string; what: string }) {
  const [words, say] = useState("Copy");
  const copy = async () => {
    try {
      await put(text);
      say("Copied");
    } catch {
      say("Not allowed");
    }
    setTimeout(() => say("Copy"), SHOWN_MS);
  };
  return (
    <button class="quiet small" onClick={() => void copy()} aria-label={words === "Copy" ? `Copy ${what}` : words}>
      {words}
    </button>
  );
}

/** Also where the page came over plain HTTP from another machine, which has no `navigator.clipboard`. */
async function put(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("the browser refused");
}
