package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
)

// Order is one line on standard input.
type order struct {
	Op     string   `json:"op"` // start, signal
	Name   string   `json:"name"`
	Argv   []string `json:"argv"`
	Env    []string `json:"env"`
	Signal int      `json:"signal"`
}

// Report is one line on standard output.
type report struct {
	Event  string `json:"event"` // started, exited, signalled, refused
	Name   string `json:"name"`
	Code   int    `json:"code"`
	Signal int    `json:"signal"`
	Error  string `json:"error,omitempty"`
}

type keeper struct {
	dir string
	// Held while forking, so that a part that ends at once is known by name before it is reaped.
	lock  sync.Mutex
	names map[int]string
	out   *json.Encoder
}

// inner obeys orders until standard input closes. Returning ends the namespace and with it every process in it.
func inner(s settings) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	if os.Getpid() == 1 {
		if err := arrangeMounts(s); err != nil {
			return err
		}
	}
	k := &keeper{dir: s.dir, names: map[int]string{}, out: json.NewEncoder(os.Stdout)}
	go k.reap()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return fmt.Errorf("failed to read an order: %w", err)
		}
		k.obey(o)
	}
	return nil
}

func (k *keeper) obey(o order) {
	k.lock.Lock()
	defer k.lock.Unlock()
	answer := report{Event: "started", Name: o.Name}
	var err error
	switch o.Op {
	case "start":
		err = k.start(o)
	case "signal":
		answer.Event = "signalled"
		err = k.signal(o)
	default:
		err = fmt.Errorf("unknown order %q", o.Op)
	}
	if err != nil {
		answer.Event, answer.Error = "refused", err.Error()
	}
	_ = k.out.Encode(answer)
}

func (k *keeper) start(o order) error {
	if k.pid(o.Name) != 0 {
		return fmt.Errorf("%s runs already", o.Name)
	}
	path := filepath.Join(k.dir, "logs", o.Name+".log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	pid, err := syscall.ForkExec(o.Argv[0], o.Argv, &syscall.ProcAttr{
		Dir:   k.dir,
		Env:   append(os.Environ(), o.Env...),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return fmt.Errorf("failed to start %s: %w", o.Argv[0], err)
	}
	k.names[pid] = o.Name
	return nil
}

func (k *keeper) signal(o order) error {
	pid := k.pid(o.Name)
	if pid == 0 {
		return fmt.Errorf("%s does not run", o.Name)
	}
	return syscall.Kill(pid, syscall.Signal(o.Signal))
}

func (k *keeper) pid(name string) int {
	for pid, known := range k.names {
		if known == name {
			return pid
		}
	}
	return 0
}

// reap collects every ended child, also the orphans that fall to the first process of a namespace.
func (k *keeper) reap() {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGCHLD)
	for range changed {
		for {
			var status syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if pid <= 0 {
				break
			}
			k.ended(pid, status)
		}
	}
}

func (k *keeper) ended(pid int, status syscall.WaitStatus) {
	k.lock.Lock()
	defer k.lock.Unlock()
	name, known := k.names[pid]
	if !known {
		return
	}
	delete(k.names, pid)
	answer := report{Event: "exited", Name: name, Code: status.ExitStatus()}
	if status.Signaled() {
		answer.Signal = int(status.Signal())
	}
	_ = k.out.Encode(answer)
}
