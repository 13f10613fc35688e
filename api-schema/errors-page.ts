// docs/errors.md, made from the table of errors.ts. `npm run docs` writes it.
import { errorSpecs } from "./errors.js";

const HEAD = `# Errors

Every failure that the daemon, a VM process or a command tells has a code from one table. A code
keeps its meaning; the words may change. Over HTTP a failure is a problem document (RFC 9457,
\`application/problem+json\`) with \`code\`, \`status\` and \`detail\`; over JSON-RPC it is an error whose
\`data\` has \`code\` and \`details\`. Each … stands for one detail, in this order.

| code | HTTP | says |
|---|---|---|
`;

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("%s", "…");

export const errorsPage = (): string =>
  HEAD +
  Object.entries(errorSpecs)
    .map(([code, { http, text }]) => `| \`${code}\` | ${http} | ${cell(text)} |\n`)
    .join("");
