// What the pages for readers name is there: files of the repository and each other.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, it } from "vitest";
import { projectRoot } from "../guest/paths.js";

const pages = [
  "README.md",
  ...readdirSync(join(projectRoot, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];
/** Folders of the repository that pages name files in; those that builds make are none of them. */
const FOLDERS = "api-schema|bench|bin|daemon|devices|docs|examples|launchd|native|test|vmm";
const CODE = new RegExp(`\`((?:${FOLDERS})/[\\w./-]*)\``, "g");
const LINK = /\]\(([^)#:]+)(?:#[^)]*)?\)/g;

const found = (text: string, what: RegExp): string[] =>
  [...text.matchAll(what)].map(([, path = ""]) => path);

it.each(pages)("%s names what there is", (page) => {
  const text = readFileSync(join(projectRoot, page), "utf8");
  const named = [
    ...found(text, CODE),
    ...found(text, LINK).map((path) => join(dirname(page), path)),
  ];
  expect(named.filter((path) => !existsSync(join(projectRoot, path)))).toEqual([]);
});
