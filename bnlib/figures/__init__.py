"""Records or arrays in, a plotly figure out: for each chapter a module or two, all in the one style of `style`."""
