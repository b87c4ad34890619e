import DOMPurify from "dompurify";
import { marked, type Token } from "marked";
import { memo } from "./memo";
import { CodeBlock } from "./code-block";

// A model's words are a stranger's: no pictures (they would tell a server elsewhere), forms, styles or ids.
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
  const tokens = marked.lexer(text, { gfm: true, breaks: false });
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

function clean(token: Token): string {
  return DOMPurify.sanitize(marked.parser([token]), RULES);
}
