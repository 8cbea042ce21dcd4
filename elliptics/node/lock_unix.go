//go:build unix

package node

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks f for this open file, exclusively or beside others; it
// answers false when somebody else's lock forbids it. The lock ends when f is
// closed, also by the death of the process.
func tryLock(f *os.File, exclusive bool) (bool, error) {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		case !errors.Is(err, syscall.EINTR):
			return false, err
		}
	}
}
