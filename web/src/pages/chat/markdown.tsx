import DOMPurify from "dompurify";
import { Marked, type Token } from "marked";
import { memo } from "./memo";
import { CodeBlock } from "./code-block";

// A model's words are a stranger's. Tags are shown as they were written, and pictures, which would tell a
// server elsewhere, as their descriptions; what markdown makes is cleaned all the same.
const marked = new Marked({
  gfm: true,
  renderer: { html: ({ text }) => escaped(text), image: ({ text }) => escaped(text) },
});
const ALLOWED_TAGS = ["a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i"].concat(
  ["kbd", "li", "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"],
);
const RULES = { ALLOWED_TAGS, ALLOWED_ATTR: ["href", "start", "title"], ALLOWED_URI_REGEXP: /^(https?|mailto):/i };

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("rel", "noopener noreferrer nofollow");
  node.setAttribute("target", "_blank");
});

/** Markdown as it streams: what has not changed is not made anew. */
export function Markdown({ text }: { text: string }) {
  const tokens = marked.lexer(text);
  return (
    <div class="markdown">
      {tokens.map((token, index) =>
        token.type === "code" ? (
          <CodeBlock key={index} code={String(token.text)} language={String(token.lang ?? "")} />
        ) : token.type === "space" ? null : (
          <Piece key={index} raw={token.raw} token={token} />
        ),
      )}
    </div>
  );
}

const Piece = memo(
  ({ token }: { raw: string; token: Token }) => <div dangerouslySetInnerHTML={{ __html: clean(token) }} />,
  (before, after) => before.raw === after.raw,
);

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

function clean(token: Token): string {
  return DOMPurify.sanitize(marked.parser([token]), RULES);
}
