/** What the server said in place of an answer. `status` is 0 where it could not be reached at all. */
export class ApiError extends Error {
  override name = "ApiError";

  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null = null,
    readonly body: unknown = null,
    readonly retryAfter: string | null = null,
  ) {
    super(message);
  }
}

interface Said {
  message?: string;
  code?: string | null;
}

/** The error that an answer with a status outside 200 to 299 stands for. */
export async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    body = null; // a proxy's page of HTML: of no use to a person
  }
  const said = ((body as { error?: Said } | null)?.error ?? {}) as Said;
  const message = said.message ?? `the server answered ${response.status} ${response.statusText}`.trim();
  return new ApiError(message, response.status, said.code ?? null, body, response.headers.get("retry-after"));
}

/** Whether a call was given up on purpose. */
export function wasAborted(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** One sentence for people, whatever was thrown. */
export function inWords(error: unknown): string {
  if (error instanceof ApiError) {
    return error.retryAfter ? `${error.message} (try again in ${error.retryAfter} s)` : error.message;
  }
  return error instanceof Error ? error.message : String(error);
}
