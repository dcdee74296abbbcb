// Builds into dist/, which the control planes embed. During development /api goes to a control plane or to the mock.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

const server = process.env.WEFT_SERVER ?? 'http://127.0.0.1:5689';

export default defineConfig({
  plugins: [svelte()],
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  server: { proxy: { '/api': server } },
  test: { include: ['test/unit/**/*.test.ts'], environment: 'node' },
});
