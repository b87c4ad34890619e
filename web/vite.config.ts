import { defineConfig } from "vite";
import { sourceDigest } from "./digest.ts";

const server = process.env.APPORTION_SERVER ?? "http://127.0.0.1:8080";

export default defineConfig({
  base: "./", // so that the page also works under a prefix that a proxy gives it
  plugins: [sourceDigest()],
  build: {
    outDir: "../src/apportion/serve/static",
    emptyOutDir: true,
    target: ["chrome123", "firefox121", "safari17.5"],
    assetsInlineLimit: 0, // the page's policy allows no data: scripts or styles, and few images
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: { proxy: { "/v1": server, "/health": server, "/ready": server } },
});
