// Every failure that crosses a process boundary has a code from this one table: the daemon's REST
// answers, the VM process's JSON-RPC answers and the commands' messages. `%s` takes the details in
// order. A code, once published, keeps its meaning.

export interface ErrorSpec {
  readonly http: number;
  readonly text: string;
}

const SPECS = {
  // What a client sent.
  REQUEST_INVALID: { http: 400, text: "%s: %s" }, // where in the body, what is wrong
  REQUEST_NOT_JSON: { http: 400, text: "the body is not JSON: %s" },
  REQUEST_TOO_LARGE: { http: 413, text: "the request is larger than %s bytes" },
  HEADERS_TOO_LARGE: { http: 431, text: "the request's headers are larger than %s bytes" },
  REQUEST_TIMEOUT: { http: 408, text: "the request did not come in whole in time" },
  REQUEST_NOT_HTTP: { http: 400, text: "the request is not valid HTTP: %s" },
  MEDIA_TYPE: { http: 415, text: "content-type: must be application/json, not %s" },
  UPGRADE_REQUIRED: { http: 426, text: "the console's stream is a WebSocket: ask for an upgrade" },
  UNAUTHORIZED: { http: 401, text: "a valid bearer token is needed" },
  FORBIDDEN: { http: 403, text: "%s" },
  IDEMPOTENCY_KEY_REUSED: {
    http: 422,
    text: "the Idempotency-Key %s was used for another request: take a new one",
  },
  IDEMPOTENCY_KEY_BUSY: {
    http: 409,
    text: "the request with the Idempotency-Key %s is still being served",
  },
  RATE_LIMITED: { http: 429, text: "too many requests without a valid token from %s: wait" },
  TOO_MANY_CONNECTIONS: { http: 503, text: "all %s connections are taken" },
  HOST_NOT_ALLOWED: { http: 403, text: "the request names %s: %s, which is not served here" },
  DRY_RUN_FAILED: { http: 422, text: "%s problems would keep it from working; the first: %s" },
  PATH_OUTSIDE: { http: 422, text: "%s does not lie in a folder that definitions may name: %s" },
  PATH_LEADS_OUT: { http: 422, text: "%s leads out of %s by a link" },
  TOKEN_NOT_FOUND: { http: 404, text: "there is no token %s" },
  TOKEN_EXISTS: { http: 409, text: "a token named %s exists" },
  ROUTE_NOT_FOUND: { http: 404, text: "there is no %s %s" },
  METHOD_NOT_ALLOWED: { http: 405, text: "%s does not take %s, only %s" },
  METHOD_NOT_FOUND: { http: 404, text: "there is no method %s" },
  NOT_BUILT_YET: { http: 501, text: "not built yet: %s" },
  PROTOCOL_MISMATCH: { http: 409, text: "protocol %s is spoken here, not %s" },

  // The registry.
  VM_NOT_FOUND: { http: 404, text: "there is no VM %s" },
  VM_EXISTS: { http: 409, text: "a VM named %s exists" },
  VM_UUID_EXISTS: { http: 409, text: "a VM with the UUID %s exists" },
  VM_CHANGED: { http: 412, text: "the VM is at generation %s, not %s" },
  VM_STATE_FORBIDS: { http: 409, text: "a VM that is %s cannot %s" },
  VM_BUSY: { http: 503, text: "%s requests wait for VM %s already" },
  VM_PROTECTED: { http: 409, text: "VM %s is protected: change `protected` to false first" },
  VM_TEMPLATE: { http: 409, text: "VM %s is a template: clone it, or change `template` to false" },
  HOST_SHUTTING_DOWN: { http: 503, text: "the host is shutting down: no VM is started" },
  STORED_IMAGE_NOT_FOUND: { http: 404, text: "there is no image %s" },
  STORED_IMAGE_EXISTS: { http: 409, text: "an image named %s exists" },
  STORED_IMAGE_IN_USE: { http: 409, text: "image %s is used by %s" },
  STORED_IMAGE_UNFIT: { http: 422, text: "image %s: %s" },
  STORED_IMAGE_DIGEST: { http: 422, text: "image %s: the SHA-256 of the file is %s, not %s" },
  STORED_NETWORK_NOT_FOUND: { http: 404, text: "there is no network %s" },
  STORED_NETWORK_EXISTS: { http: 409, text: "a network named %s exists" },
  STORED_NETWORK_IN_USE: { http: 409, text: "network %s is used by %s" },
  STORED_NETWORK_CHANGED: { http: 412, text: "the network is at generation %s, not %s" },
  OPERATION_NOT_FOUND: { http: 404, text: "there is no operation %s" },
  OPERATION_ENDED: { http: 409, text: "operation %s is %s" },
  OPERATION_INTERRUPTED: { http: 500, text: "the daemon was restarted while %s was under way" },
  CLONE_DISK_MISSING: {
    http: 422,
    text: "disks: the disk in slot %s is written to: say where its copy goes",
  },
  CLONE_DISK_UNKNOWN: { http: 422, text: "disks: there is no disk in slot %s" },
  FILE_EXISTS: { http: 409, text: "%s exists" },
  FILE_COPY_FAILED: { http: 507, text: "%s cannot be copied to %s: %s" },
  VM_PROCESS_GONE: { http: 502, text: "the process of VM %s is gone: %s" },
  VM_PROCESS_OLD: {
    http: 409,
    text: "the process of VM %s is of an older release, which has no %s: start the VM anew for it",
  },
  VM_PROCESS_SILENT: { http: 504, text: "the process of VM %s did not answer %s within %s s" },
  FOLDER_UNSAFE: { http: 422, text: "%s: %s" },
  VM_START_FAILED: { http: 502, text: "VM %s did not start: %s" },
  STATE_DIRECTORY_LOCKED: { http: 409, text: "another daemon (pid %s) uses %s" },
  HOST_PROBE_FAILED: { http: 500, text: "what this host can do cannot be found out: %s" },
  SOCKET_TAKEN: { http: 409, text: "another program answers on %s" },
  DATABASE_NEWER: {
    http: 500,
    text: "the database %s has schema version %s; this daemon knows up to %s",
  },
  DATABASE_BROKEN: { http: 500, text: "the database %s: %s" },

  // Definitions that no schema can refuse alone.
  DEVICE_SLOT_INVALID: { http: 422, text: "the PCI slot %s is not [BUS:]SLOT[:FUNCTION]: %s" },
  DEVICE_SLOT_TAKEN: { http: 422, text: "two devices are in PCI slot %s" },
  DEVICE_NO_SLOT: { http: 422, text: "there is no free PCI slot for %s" },
  DEVICE_ONLY_ONE: { http: 422, text: "only one %s is allowed" },
  DEVICE_PLACE: { http: 422, text: "%s can only be %s" },
  SERIAL_NEEDS_LPC: { http: 422, text: "%s needs an lpc device" },
  SERIAL_PATH_MISSING: { http: 422, text: "%s: the backend %s needs a path" },
  SERIAL_BACKEND_FAILED: { http: 422, text: "%s: the backend %s failed: %s" },
  FIRMWARE_TABLES_TOO_LARGE: { http: 422, text: "the %s tables need %s bytes, there are %s" },

  // Disks.
  IMAGE_UNUSABLE: { http: 422, text: "the disk image %s cannot be used: %s" },
  IMAGE_LOCKED: { http: 409, text: "the disk image %s is in use by another VM or a copy" },

  // Networks.
  NETWORK_UNUSABLE: { http: 422, text: "%s: the network %s cannot be used: %s" },
  NETWORK_IN_USE: { http: 409, text: "the network interface %s is in use by another program" },
  NETWORK_MAC_TAKEN: { http: 409, text: "the MAC address %s of %s is taken by %s" },
  NETWORK_NOT_FOUND: { http: 404, text: "there is no network card in slot %s" },
  CAPTURE_FAILED: { http: 422, text: "the capture cannot be written to %s: %s" },
  SOCKET_FAILED: { http: 422, text: "%s: the socket %s cannot be used: %s" },

  // CD drives.
  DRIVE_NOT_FOUND: { http: 404, text: "there is no CD drive %s" },
  MEDIUM_LOCKED: {
    http: 409,
    text: "the guest has locked the CD drive %s; it was asked to let go (force does not ask)",
  },

  // Images.
  FILE_UNREADABLE: { http: 422, text: "%s cannot be read: %s" },
  FILE_CHANGED: { http: 422, text: "%s changed while it was read" },
  KERNEL_UNKNOWN_FORMAT: {
    http: 422,
    text: "%s is no kernel: neither a bzImage (HdrS at 0x202) nor an x86 ELF file",
  },
  KERNEL_TRUNCATED: { http: 422, text: "%s is truncated: %s needs %s bytes, the file has %s" },
  KERNEL_TOO_OLD: {
    http: 422,
    text: "%s: boot protocol %s is older than 2.10 (Linux 2.6.31)",
  },
  KERNEL_NOT_HIGH: { http: 422, text: "%s is a zImage (loaded low), not a bzImage" },
  KERNEL_HEADER_INVALID: { http: 422, text: "%s: %s is %s; it should be %s" },
  KERNEL_DOES_NOT_FIT: {
    http: 422,
    text: "%s needs memory up to %s; the guest's low memory ends at %s",
  },
  KERNEL_SEGMENT_INVALID: { http: 422, text: "%s: program header %s %s" },
  KERNEL_ELF_UNSUPPORTED: { http: 422, text: "%s: %s is %s; it should be %s" },
  KERNEL_ENTRY_OUTSIDE: { http: 422, text: "%s: the entry point %s lies in no loaded segment" },
  KERNEL_OVERLAP: { http: 422, text: "%s: %s (%s to %s) lies over %s at %s" },
  CMDLINE_TOO_LONG: {
    http: 422,
    text: "the command line has %s bytes; %s takes %s",
  },
  INITRD_DOES_NOT_FIT: {
    http: 422,
    text: "%s (%s bytes) does not fit: the kernel ends at %s, an initrd may reach up to %s",
  },
  INITRD_EMPTY: { http: 422, text: "%s is empty" },
  MULTIBOOT_NO_HEADER: {
    http: 422,
    text: "%s has no Multiboot header (0x1BADB002, checksummed, in its first 8 KiB)",
  },
  MULTIBOOT_FLAGS: { http: 422, text: "%s asks for Multiboot features %s, which are not built" },
  MULTIBOOT_HEADER_INVALID: { http: 422, text: "%s: %s" },
  MODULE_DOES_NOT_FIT: { http: 422, text: "the module %s (%s bytes) does not fit below %s" },

  // The machine.
  ACCELERATOR_UNUSABLE: { http: 422, text: "the accelerator %s cannot be used: %s" },
  CPU_MODEL_UNUSABLE: {
    http: 422,
    text: "the CPU model %s cannot be had: %s; it needs accelerator kvm, 'stable' runs on every one",
  },
  MEMORY_UNAVAILABLE: { http: 422, text: "%s bytes of guest memory cannot be had: %s" },
  MACHINE_FAILED: { http: 500, text: "the machine: %s" },
  VCPU_NOT_FOUND: { http: 404, text: "there is no vCPU %s; the VM has %s" },

  // The VM process.
  SOCKET_PATH_TOO_LONG: {
    http: 422,
    text: "the socket path %s has %s bytes; a Unix socket's path has 103 at most",
  },
  RUNTIME_LOCKED: { http: 409, text: "another VM process (pid %s) uses %s" },
  LAUNCH_INVALID: { http: 422, text: "%s: %s" },
  CONFINEMENT_FAILED: {
    http: 500,
    text: "the VM's process cannot give up its rights: %s; 'xhyved --unconfined' starts VMs with them",
  },
  CONSOLE_INPUT_FULL: { http: 429, text: "the guest reads no input: %s bytes wait already" },
  CONSOLE_NONE: { http: 409, text: "the VM has no serial port with the backend console" },
  STATE_INVALID: { http: 422, text: "the saved state %s: %s" },
  STATE_MISMATCH: { http: 422, text: "the saved state has %s %s, the VM %s" },
  STATE_WRITE_FAILED: { http: 507, text: "the state cannot be written to %s: %s" },

  INTERNAL: { http: 500, text: "internal error: %s" },
} as const satisfies Record<string, ErrorSpec>;

export type ErrorCode = keyof typeof SPECS;
export type ErrorDetail = string | number;

export const errorSpecs: Readonly<Record<ErrorCode, ErrorSpec>> = SPECS;

export const errorCodes = Object.keys(SPECS) as readonly ErrorCode[];

export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(SPECS, code);

export class VmError extends Error {
  override readonly name = "VmError";
  readonly code: ErrorCode;
  readonly details: readonly ErrorDetail[];

  constructor(code: ErrorCode, details: readonly ErrorDetail[] = [], options?: ErrorOptions) {
    const rest = details.map(String);
    super(
      SPECS[code].text.replace(/%s/g, () => rest.shift() ?? "?"),
      options,
    );
    this.code = code;
    this.details = details;
  }

  get http(): number {
    return SPECS[this.code].http;
  }
}

/** One place of a request that is wrong. */
export interface FieldProblem {
  /** Where: body, query, path, headers; or what the whole is called. */
  readonly in: string;
  /** A JSON Pointer (RFC 6901) as a fragment: #/boot/kernel. */
  readonly pointer: string;
  /** What would be right. */
  readonly detail: string;
  /** Of the table, where it says more than REQUEST_INVALID. */
  readonly code?: ErrorCode;
}

/** As a person writes it: body.boot.kernel. */
export const placeOf = ({ in: what, pointer }: FieldProblem): string =>
  what + pointer.slice(1).replaceAll("/", ".").replaceAll("~1", "/").replaceAll("~0", "~");

/** All that is wrong with a request; the message is about the first. */
export class InvalidRequest extends VmError {
  readonly problems: readonly FieldProblem[];

  /** `by`: a problem with a code of its own, which is then that of the whole. */
  constructor(
    problems: readonly FieldProblem[],
    by?: { readonly error?: VmError; readonly code?: ErrorCode },
  ) {
    const [first] = problems;
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
    const place = first === undefined ? "request" : placeOf(first);
    if (by?.error === undefined)
      super("REQUEST_INVALID", [place, `${first?.detail ?? "is not valid"}${more}`]);
    else super(by.error.code, by.error.details);
    this.problems = problems.map(({ in: what, pointer, detail, code }) => ({
      ...{ in: what, pointer, detail },
      ...(code === undefined ? {} : { code }),
    }));
  }
}

/** What any thrown value is to a client: itself if it has a code, else INTERNAL. */
export const asVmError = (error: unknown): VmError =>
  error instanceof VmError
    ? error
    : new VmError("INTERNAL", [error instanceof Error ? error.message : String(error)], {
        cause: error,
      });

/** `why` of a failed system call, without Node's decoration. */
export const reasonOf = (error: unknown): string =>
  error instanceof Error
    ? error.message.replace(/^(E[A-Z0-9]+): ([^,]+).*$/s, "$2 ($1)")
    : String(error);
