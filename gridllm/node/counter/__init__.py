"""Where a node is paid: on which terms it serves whom, what it is owed, and the way of vouchers to the keepers."""
