package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Paths that kubelet, containerd and the CNI plugins write to whatever they are told; each cluster gets its own.
var privatePaths = map[string]string{"/run": "run", "/var/lib": "lib", "/var/log": "log"}

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
		for path, own := range privatePaths {
			source := filepath.Join(s.dir, "private", own)
			if err := os.MkdirAll(source, 0o755); err != nil {
				return err
			}
			if err := syscall.Mount(source, path, "", syscall.MS_BIND, ""); err != nil {
				return fmt.Errorf("failed to give %s an own place: %w", path, err)
			}
		}
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("failed to share mounts with containers: %w", err)
	}
	return nil
}
