import { defineConfig } from "vitest/config";

// unit: any user, no network, beside the code it tests. system: root, Debian packages, real
// guests.
const project = (name: string, include: string[], testTimeout: number) => ({
  test: { name, include, testTimeout, hookTimeout: testTimeout, pool: "forks" as const },
});

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      project(
        "unit",
        ["{api-schema,bench,daemon,devices,launchd,native,vmm,test/unit}/**/*.test.ts"],
        180_000,
      ),
      project("system", ["test/system/**/*.test.ts"], 1_200_000),
    ],
  },
});
