import { Component, createElement, type FunctionComponent } from "preact";

/** A component that is drawn again only when `same` says that its properties differ. */
export function memo<P extends object>(inner: FunctionComponent<P>, same: (before: P, after: P) => boolean) {
  return class extends Component<P> {
    override shouldComponentUpdate(next: P): boolean {
      return !same(this.props as P, next);
    }

    override render() {
      return createElement(inner, this.props as P);
    }
  };
}
