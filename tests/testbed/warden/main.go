// Warden keeps the processes of one test cluster and sees to it that nothing of them outlives the test that asked for
// them, however that test ends. The test holds the other end of the warden's standard input; when that closes, even
// because the test was killed with SIGKILL, everything goes.
//
// It is two processes. The inner one is the first process of a new PID and mount namespace and starts the parts: when
// it ends, the kernel kills all that ever sprang from it (container shims and pods too) and drops every mount made
// there. The outer one waits for that and removes what namespaces do not hold: control groups, the bridge, the files.
//
// Without root there are no namespaces; the parts then die with the inner process through their parent-death signal.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
)

// Settings come from the flags; the inner process is started with the same ones.
type settings struct {
	dir     string // the cluster's own directory, removed at the end
	logsTo  string // where the directory's logs are moved at the end; empty: removed with the rest
	cgroup  string // the cluster's control group, below the root of every hierarchy; empty: none
	bridge  string // the network bridge of its pods; empty: none
	private bool   // give the parts their own /run, /var/lib and /var/log
	inner   bool
}

// The parent-death signal is bound to the thread that forked, so all forking stays on the first thread.
func init() { runtime.LockOSThread() }

func main() {
	var s settings
	flag.StringVar(&s.dir, "dir", "", "directory of the cluster, removed at the end")
	flag.StringVar(&s.logsTo, "logs-to", "", "where to move the logs at the end")
	flag.StringVar(&s.cgroup, "cgroup", "", "control group made for the cluster and removed at the end")
	flag.StringVar(&s.bridge, "bridge", "", "network bridge removed at the end")
	flag.BoolVar(&s.private, "private", false, "give the parts their own /run, /var/lib and /var/log")
	flag.BoolVar(&s.inner, "inner", false, "run as the first process of the namespaces")
	flag.Parse()
	if s.dir == "" {
		fmt.Fprintln(os.Stderr, "warden: -dir is missing")
		os.Exit(2)
	}
	work := outer
	if s.inner {
		work = inner
	}
	if err := work(s); err != nil {
		fmt.Fprintln(os.Stderr, "warden:", err)
		os.Exit(1)
	}
}
