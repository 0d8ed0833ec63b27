module qwex.dev/testbed/warden

go 1.24.0
