// The OpenAPI document, and Swagger UI to browse it: all from this daemon, nothing from elsewhere.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { openApiDocument } from "../../../api-schema/openapi.js";
import type { docsFiles } from "../../../api-schema/operations.js";
import type { Handlers, RawReply } from "../call.js";

type DocsFile = (typeof docsFiles)[number];

/** Swagger UI styles its own elements; scripts come from files alone. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'";

const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="content-security-policy" content="${POLICY.replace("frame-ancestors 'none'; ", "")}">
<title>xhyved</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

const START = `SwaggerUIBundle({ url: "/v1/openapi.json", domNode: document.getElementById("page"), validatorUrl: null, deepLinking: true, tryItOutEnabled: true });
`;

const MEDIA_TYPES: Readonly<Record<DocsFile, string>> = {
  "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
  "swagger-ui.css": "text/css; charset=utf-8",
  "start.js": "text/javascript; charset=utf-8",
};

const libraryFile = (file: DocsFile): Buffer =>
  readFileSync(createRequire(import.meta.url).resolve(`swagger-ui-dist/${file}`));

export function docsHandlers(
  version: string,
): Pick<Handlers, "getOpenApi" | "getDocs" | "getDocsFile"> {
  let document: object | undefined;
  return {
    getOpenApi: () => {
      document ??= openApiDocument(version);
      return document;
    },
    getDocs: () => ({ bytes: PAGE }),
    getDocsFile: ({ path: { file } }): RawReply => ({
      bytes: file === "start.js" ? START : libraryFile(file),
      mediaType: MEDIA_TYPES[file],
    }),
  };
}
