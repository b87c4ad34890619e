import { key, refused } from "../state/key";
import { ApiError, errorOf, wasAborted } from "./errors";

/** Where a path of the API is, also where a proxy serves the page under a prefix. */
function address(path: string): string {
  return new URL(path, document.baseURI.split("#")[0]).href;
}

/**
 * One call of the API with the key that was typed in.
 *
 * @throws ApiError where the server refuses or cannot be reached; a DOMException where `init.signal` aborts.
 */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (key.value) headers.set("authorization", `Bearer ${key.value}`);
  let response: Response;
  try {
    response = await fetch(address(path), { ...init, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (wasAborted(error)) throw error;
    throw new ApiError("the server cannot be reached", 0);
  }
  if (response.ok) return response;
  if (response.status === 401) refused();
  throw await errorOf(response);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await (await call(path, { signal: signal ?? null })).json()) as T;
}

/** The answer as it comes; the body of `message` goes as JSON. */
export function post(path: string, message: unknown, signal?: AbortSignal): Promise<Response> {
  const body = JSON.stringify(message);
  return call(path, { method: "POST", body, headers: { "content-type": "application/json" }, signal: signal ?? null });
}
