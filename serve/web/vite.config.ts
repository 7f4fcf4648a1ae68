import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// Addresses are relative, so that the page works under any route prefix. `npm run dev` asks a server on port 8000.
export default defineConfig({
  base: "./",
  plugins: [react()],
  build: { outDir: "../static", emptyOutDir: true, modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  server: {
    proxy: Object.fromEntries(
      ["/v1", "/healthz", "/docs", "/openapi.json"].map((path) => [path, "http://127.0.0.1:8000"]),
    ),
  },
});
