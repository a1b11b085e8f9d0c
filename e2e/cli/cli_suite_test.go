// Package cli proves the command line as its users meet it: exit codes, the demo and what it leaves behind, and
// stock AWS clients that are pointed at a cloud by `cloudtwin env`.
package cli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

func TestCLI(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "command line")
}

var program string

var _ = twin.CheckMode()

var _ = BeforeSuite(func() { program = twin.Program() })

// result is what a command did.
type result struct {
	Code   int
	Stdout string
	Stderr string
}

// invoke runs the program to its end.
func invoke(ctx context.Context, args ...string) result {
	GinkgoHelper()
	return finish(command(ctx, args...))
}

func command(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, program, args...)
}

func finish(cmd *exec.Cmd) result {
	GinkgoHelper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		Expect(err).NotTo(HaveOccurred())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// stateFolder is a short path, since sockets lie in it; what is left in it at the end of the spec is an error.
func stateFolder() string {
	GinkgoHelper()
	dir, err := os.MkdirTemp("", "ct")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(os.RemoveAll(dir)).To(Succeed()) })
	return filepath.Join(dir, "s")
}

// expectNothingLeft checks that a state folder, its guests and its floppies are gone.
func expectNothingLeft(state string) {
	GinkgoHelper()
	Eventually(twin.Processes).WithArguments(state).WithTimeout(time.Minute).Should(BeEmpty())
	Expect(state).NotTo(BeADirectory())
	Expect(local.Layout(state).Media()).NotTo(BeAnExistingFile(), "floppies")
	Expect(local.Layout(state).LibvirtRoot()).NotTo(BeAnExistingFile())
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// evidenceFolder is a folder for the demo's evidence, whose files become part of the report of a spec that fails.
func evidenceFolder() string {
	GinkgoHelper()
	dir := GinkgoT().TempDir()
	DeferCleanup(func() error {
		if !CurrentSpecReport().Failed() {
			return nil
		}
		return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			AddReportEntry(entry.Name(), string(text), ReportEntryVisibilityFailureOrVerbose)
			return err
		})
	})
	return dir
}
