"""Records or arrays in, a plotly figure out: one module a chapter, all in the one style of `style`."""
