"""The smallest workflow: two nodes, one after the other. Run it with `penstock up --run hello`."""

import penstock as ps

flow = ps.workflow("hello", parameters={"who": "world"}, purpose="shows a run", owner="@you")
greet = flow.batch("greet", ps.component("shell", command="echo hello {{ param.who }}"))
flow.batch("cheer", ps.component("shell", command="echo and all is well"), after=greet)
