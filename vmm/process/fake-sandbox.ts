// A reader of sandbox profiles, for tests: what the kernel would say of a request, as far as our
// profiles use the language. Of the rules that fit the last one decides.
type Form = string | Text | readonly Form[];
/** A string of the language, apart from its symbols. */
class Text {
  readonly value: string;
  constructor(value: string) {
    this.value = value;
  }
}

export interface Request {
  readonly path?: string;
  /** The Unix socket that is connected to, or that somebody has connected to. */
  readonly remote?: string;
  readonly local?: string;
  readonly target?: "self" | "others";
  readonly domain?: string;
}

const TOKEN = /\s*(?:;[^\n]*|('|[()])|"((?:[^"\\]|\\[\s\S])*)"|([^\s()'"]+))/y;

/** TinyScheme's, of which our profiles use two kinds of escapes. */
const unescaped = (text: string): string =>
  text.replace(/\\(?:x([0-9a-f]{2})|(["\\]))|\\/g, (whole, code?: string, plain?: string) => {
    if (code !== undefined) return String.fromCharCode(Number.parseInt(code, 16));
    if (plain === undefined) throw new Error(`an escape that is not ours: ${whole}`);
    return plain;
  });

export function read(profile: string): Form[] {
  const open: Form[][] = [[]];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < profile.trimEnd().length) {
    const found = TOKEN.exec(profile);
    if (found === null) throw new Error("this is no profile");
    const [, mark, text, symbol] = found;
    const into = open.at(-1);
    if (mark === "(") open.push([]);
    else if (mark === ")") open.at(-2)?.push(open.pop() ?? []);
    else if (text !== undefined) into?.push(new Text(unescaped(text)));
    else if (symbol !== undefined) into?.push(symbol);
    if (open.length === 0) throw new Error("a parenthesis too many");
  }
  const [forms = [], ...unclosed] = open;
  if (unclosed.length > 0) throw new Error("a parenthesis is not closed");
  return forms;
}

const textOf = (form: Form | undefined): string => (form instanceof Text ? form.value : "");

const FILTERS: Readonly<Record<string, (rest: readonly Form[], request: Request) => boolean>> = {
  literal: ([path], request) => request.path === textOf(path),
  subpath: ([path], request) =>
    request.path === textOf(path) || (request.path ?? "").startsWith(`${textOf(path)}/`),
  regex: ([pattern], request) => new RegExp(textOf(pattern)).test(request.path ?? ""),
  local: ([, filter], { local }) => local !== undefined && fits(filter, { path: local }),
  remote: ([, filter], { remote }) => remote !== undefined && fits(filter, { path: remote }),
  target: ([whom], request) => request.target === whom,
  "socket-domain": ([domain], request) => request.domain === domain,
};

function fits(filter: Form | undefined, request: Request): boolean {
  const [kind, ...rest] = Array.isArray(filter) ? (filter as Form[]) : [];
  const decide = FILTERS[String(kind)];
  if (decide === undefined) throw new Error(`a filter that is not ours: ${String(kind)}`);
  return decide(rest, request);
}

/** `file-read*` is all operations that begin so. */
const covers = (named: string, operation: string): boolean =>
  named === "default" ||
  (named.endsWith("*") ? operation.startsWith(named.slice(0, -1)) : named === operation);

/** Every rule, those behind `defined?` too: a new macOS has them all. */
function rulesOf(forms: readonly Form[]): (readonly Form[])[] {
  return forms.flatMap((form) => {
    if (!Array.isArray(form)) throw new Error("a form is a list");
    const [kind, ...rest] = form as Form[];
    if (kind === "version") return [];
    return kind === "if" ? rulesOf(rest.slice(1)) : [form as Form[]];
  });
}

/** What the kernel says of `operation`. Throws where the text is not what our profiles are made of. */
export function allows(profile: string, operation: string, request: Request = {}): boolean {
  let answer = false;
  for (const [action, ...rest] of rulesOf(read(profile))) {
    if (action !== "allow" && action !== "deny") throw new Error(`no action: ${String(action)}`);
    const operations = rest.filter((one): one is string => typeof one === "string");
    const filters = rest.filter((one) => Array.isArray(one));
    if (!operations.some((one) => covers(one, operation))) continue;
    if (filters.length > 0 && !filters.some((one) => fits(one, request))) continue;
    answer = action === "allow";
  }
  return answer;
}
