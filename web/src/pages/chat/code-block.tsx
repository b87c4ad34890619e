import { CopyButton } from "./copy-button";

export function CodeBlock({ code, language }: { code: string; language: string }) {
  return (
    <div class="code-block">
      <div class="code-head">
        <span>{language.split(/\s/)[0] || "text"}</span>
        <CopyButton text={code} what="code" />
      </div>
      <pre tabIndex={0}>
        <code>{code}</code>
      </pre>
    </div>
  );
}
