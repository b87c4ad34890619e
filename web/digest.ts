import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const ROOT = import.meta.dirname;
const FILES = ["digest.ts", "index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"];

/** Paths of all that the build is made from, sorted by code point, as the test in Python sorts them. */
function sources(): string[] {
  const listed = readdirSync(join(ROOT, "src"), { recursive: true, withFileTypes: true });
  const inside = listed
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"))
    .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length + 1));
  return [...FILES, ...inside].sort((a, b) => (a < b ? -1 : 1));
}

/** SHA-256 over the path and the SHA-256 of each source. */
function digest(): string {
  const whole = createHash("sha256");
  for (const path of sources()) {
    const own = createHash("sha256").update(readFileSync(join(ROOT, path))).digest("hex");
    whole.update(`${path} ${own}\n`);
  }
  return whole.digest("hex");
}

/** Writes beside the built files what they were built from, so that a stale build is found out. */
export function sourceDigest(): Plugin {
  return {
    name: "source-digest",
    generateBundle() {
      this.emitFile({ type: "asset", fileName: "sources.sha256", source: `${digest()}\n` });
    },
  };
}
