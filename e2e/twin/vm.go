package twin

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ginkgo "github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// instance returns what the cloud says of an instance of any account.
func (t *Twin) instance(ctx context.Context, id string) (operator.Instance, error) {
	status, err := t.Operator.Status(ctx)
	if err != nil {
		return operator.Instance{}, err
	}
	for _, i := range status.Instances {
		if i.ID == id {
			return i, nil
		}
	}
	return operator.Instance{}, fmt.Errorf("no instance %s", id)
}

// State returns an instance's state.
func (t *Twin) State(ctx context.Context, id string) (string, error) {
	i, err := t.instance(ctx, id)
	return i.State, err
}

// Stage returns the last milestone of an instance's guest.
func (t *Twin) Stage(ctx context.Context, id string) (string, error) {
	i, err := t.instance(ctx, id)
	return i.Stage, err
}

// Origin returns how an instance's guest came to life: cold, fork, pooled, sim.
func (t *Twin) Origin(ctx context.Context, id string) (string, error) {
	i, err := t.instance(ctx, id)
	return i.Guests, err
}

// Console returns what a guest wrote so far.
func (t *Twin) Console(ctx context.Context, id string) (string, error) {
	i, err := t.instance(ctx, id)
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(i.ConsolePath)
	return string(data), err
}

// Stages returns the milestones of one kind on a console.
func Stages(console, stage string) []map[string]any {
	var found []map[string]any
	for line := range strings.Lines(console) {
		_, text, ok := strings.Cut(line, "@cloudtwin ")
		var fields map[string]any
		if ok && json.Unmarshal([]byte(text), &fields) == nil && fields["stage"] == stage {
			found = append(found, fields)
		}
	}
	return found
}

// GuestProcesses returns the command lines of the QEMU processes that name something: a guest's id, a twin's folder.
func (t *Twin) GuestProcesses(name string) []string {
	ginkgo.GinkgoHelper()
	return slices.DeleteFunc(Processes(name), func(line string) bool { return !strings.Contains(line, "qemu-system") })
}

// Processes returns the command lines of the processes of this machine that name something.
func Processes(name string) []string {
	ginkgo.GinkgoHelper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), name) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// GuestProcess returns the QEMU process of an instance.
func (t *Twin) GuestProcess(instance string) int {
	ginkgo.GinkgoHelper()
	return ProcessOf("qemu-system", instance)
}

// ProcessOf returns the process whose command line holds both texts; each of its arguments ends with a zero byte.
func ProcessOf(kind, name string) int {
	ginkgo.GinkgoHelper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), kind) && strings.Contains(string(line), name) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			gomega.Expect(err).NotTo(gomega.HaveOccurred())
			return pid
		}
	}
	ginkgo.Fail(fmt.Sprintf("no process of %q names %s", kind, name))
	return 0
}
