package builder

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	agentPackage      = "./lbvm-image/cmd/lbvm-agent"
	agentBuildTimeout = 10 * time.Minute
)

// agent returns the agent's binary: the one that is given, or built from source.
func (b *build) agent(ctx context.Context) ([]byte, error) {
	path := b.cfg.AgentBinary
	if path == "" {
		b.cfg.Progress("building the agent")
		path = filepath.Join(b.tmp, "lbvm-agent")
		if err := buildAgent(ctx, b.cfg.SourceDir, path); err != nil {
			return nil, err
		}
	}
	op := "read agent " + path
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, fail(op, fmt.Errorf("%w: %w", ErrNoAgent, err), "build it with: CGO_ENABLED=0 go build "+agentPackage)
	}
	return binary, fail(op, checkStatic(binary), "build it with: CGO_ENABLED=0 go build "+agentPackage)
}

// buildAgent compiles the agent so that the same sources give the same bytes wherever they lie.
func buildAgent(ctx context.Context, source, out string) error {
	op := "build agent in " + source
	if _, err := os.Stat(filepath.Join(source, agentPackage)); err != nil {
		return fail(op, fmt.Errorf("%w: %w", ErrNoAgent, err), "run it in a clone of the repository, or give an agent binary")
	}
	ctx, cancel := context.WithTimeout(ctx, agentBuildTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid=", "-o", out, agentPackage)
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=")
	cmd.WaitDelay = time.Second
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return fail(op, ctx.Err(), "")
	case errors.Is(err, exec.ErrNotFound):
		return fail(op, fmt.Errorf("%w: %w", ErrNoAgent, err), "install Go, or give an agent binary")
	case err != nil:
		return fail(op, fmt.Errorf("%w: %w: %s", ErrNoAgent, err, tail(said.String(), 20)), "")
	}
	return nil
}

// checkStatic refuses a binary that could not run as /init: there is no dynamic loader in the initramfs.
func checkStatic(binary []byte) error {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("%w: no ELF file: %w", ErrNoAgent, err)
	}
	if f.Machine != elf.EM_X86_64 || f.Class != elf.ELFCLASS64 {
		return fmt.Errorf("%w: built for %v, not for x86-64", ErrNoAgent, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%w: it is linked dynamically", ErrNoAgent)
		}
	}
	return nil
}
