package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const cgroupRoot = "/sys/fs/cgroup"

// outer starts the inner process, waits for its end and cleans up. Ctrl-C in a terminal reaches the whole group, so
// the usual signals are ignored: the closing of standard input is the one sign to leave.
func outer(s settings) error {
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	if err := makeCgroups(s.cgroup); err != nil {
		return err
	}
	command := exec.Command("/proc/self/exe", append(os.Args[1:], "-inner")...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	}
	ended := command.Run()
	cleanUp(s)
	return ended
}

func cleanUp(s settings) {
	if s.bridge != "" {
		// Fails when no pod ever ran: the bridge is made with the first one.
		_ = exec.Command("ip", "link", "delete", s.bridge).Run()
	}
	removeCgroups(s.cgroup)
	if s.logsTo != "" {
		_ = os.MkdirAll(filepath.Dir(s.logsTo), 0o755)
		_ = os.Rename(filepath.Join(s.dir, "logs"), s.logsTo)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		fmt.Fprintln(os.Stderr, "warden: failed to remove the directory:", err)
	}
}

// hierarchies are the places where a control group of ours must exist: one per controller in version 1, the root
// itself in version 2.
func hierarchies() []string {
	if _, err := os.Stat(filepath.Join(cgroupRoot, "cgroup.controllers")); err == nil {
		return []string{cgroupRoot}
	}
	entries, _ := os.ReadDir(cgroupRoot)
	var found []string
	for _, entry := range entries {
		// Links such as cpu -> cpu,cpuacct are not directories and would only repeat.
		if entry.IsDir() {
			found = append(found, filepath.Join(cgroupRoot, entry.Name()))
		}
	}
	return found
}

func makeCgroups(name string) error {
	if name == "" {
		return nil
	}
	for _, hierarchy := range hierarchies() {
		group := filepath.Join(hierarchy, name)
		if err := os.MkdirAll(group, 0o755); err != nil {
			return fmt.Errorf("failed to make a control group: %w", err)
		}
		// A new cpuset is empty and admits no process until it is given processors and memory nodes.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if !strings.HasSuffix(hierarchy, "cpuset") {
				continue
			}
			value, err := os.ReadFile(filepath.Join(hierarchy, file))
			if err != nil {
				return fmt.Errorf("failed to read the processors: %w", err)
			}
			if err := os.WriteFile(filepath.Join(group, file), value, 0o644); err != nil {
				return fmt.Errorf("failed to set the processors: %w", err)
			}
		}
	}
	return nil
}

// removeCgroups tries for a while: a group stays busy until the last of its killed processes is wholly gone.
func removeCgroups(name string) {
	if name == "" {
		return
	}
	for _, hierarchy := range hierarchies() {
		group := filepath.Join(hierarchy, name)
		for range 100 {
			if removeTree(group) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// removeTree removes directories only, deepest first: a control group's files cannot be removed and need not be.
func removeTree(group string) bool {
	entries, err := os.ReadDir(group)
	if err != nil {
		return os.IsNotExist(err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			removeTree(filepath.Join(group, entry.Name()))
		}
	}
	return syscall.Rmdir(group) == nil
}
