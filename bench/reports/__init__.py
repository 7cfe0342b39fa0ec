"""Tables, reports and figures. All are functions of rows."""
