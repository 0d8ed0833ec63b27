package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Paths that kubelet, containerd and the CNI plugins write to whatever they are told; each cluster gets its own.
var privatePaths = map[string]string{"/run": "run", "/var/lib": "lib", "/var/log": "log"}

// Kernel settings that kubelet and the bridge plugin would change for the whole machine, and for good; none of them
// matters to a test. They find what they want in a file laid over the real setting.
var kernelSettings = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
	"net/ipv4/ip_forward":       "1",
}

// arrangeMounts cuts the new mount namespace off from the machine's and shares it within itself again, because
// container runtimes expect mounts to propagate to the containers.
func arrangeMounts(s settings) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("failed to leave the machine's mounts: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", syscall.MS_NOSUID|syscall.MS_NODEV|syscall.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("failed to mount /proc: %w", err)
	}
	if s.private {
		if err := coverPaths(filepath.Join(s.dir, "private")); err != nil {
			return err
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("failed to share mounts with containers: %w", err)
	}
	return nil
}

func coverPaths(dir string) error {
	for path, own := range privatePaths {
		source := filepath.Join(dir, own)
		if err := os.MkdirAll(source, 0o755); err != nil {
			return err
		}
		if err := cover(path, source); err != nil {
			return err
		}
	}
	for setting, value := range kernelSettings {
		path, source := filepath.Join("/proc/sys", setting), filepath.Join(dir, "sys", setting)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(source), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(source, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := cover(path, source); err != nil {
			return err
		}
	}
	return nil
}

func cover(path, source string) error {
	if err := syscall.Mount(source, path, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("failed to give %s an own place: %w", path, err)
	}
	return nil
}
