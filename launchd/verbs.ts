// The commands of bin/xhyved that are not the daemon itself, apart from what does them: a daemon that
// starts loads none of it.
export const VERBS = ["install", "uninstall", "doctor"] as const;
export type Verb = (typeof VERBS)[number];

export const isVerb = (word: string | undefined): word is Verb =>
  (VERBS as readonly (string | undefined)[]).includes(word);
