import { render } from "preact";
import { App } from "./app";
import { follow } from "./state/live";
import { listen } from "./state/shortcuts";
import "uplot/dist/uPlot.min.css";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/memory.css";
import "./styles/overview.css";
import "./styles/experts.css";
import "./styles/requests.css";
import "./styles/planner.css";
import "./styles/chat.css";

render(<App />, document.getElementById("page")!);
listen();
void follow();
