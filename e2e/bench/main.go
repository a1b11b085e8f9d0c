// Command bench measures what the project promises about time: a guest's cold start, deliveries of keys, answers of
// the API, the start of a cloud. Each figure stands beside its limit or peer, measured in the same run on the same
// machine: a bare QEMU boot of the same image, the cryptography that a delivery cannot do without, an HTTP server
// that sends the same bytes. It never fails because something is slow; an aim that is missed is marked.
//
// Read suite.go for how benchmarks are listed and run. Then each is a file: bare.go, coldstart.go, delivery.go
// (its limit in cryptolimit.go), api.go, cloudstart.go. Nothing in here is a test of what the product does: the
// suites beside this folder are.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"syscall"

	"github.com/cloudtwin/cloudtwin/cloud/cmd/cloudtwin/local"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// options are the command line.
type options struct {
	output  string
	only    *regexp.Regexp
	images  string
	profile string
	list    bool
}

func run(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if err != nil {
		return exitUsage
	}
	if o.list {
		for _, name := range names() {
			_, _ = fmt.Fprintln(stdout, name)
		}
		return exitOK
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	stopProfile, err := startProfile(o.profile)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "bench: "+err.Error())
		return exitCode(ctx, []error{err})
	}
	defer stopProfile()
	failures := measure(ctx, o, stdout)
	for _, err := range failures {
		_, _ = fmt.Fprintln(stderr, "bench: "+err.Error())
	}
	return exitCode(ctx, failures)
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{images: os.Getenv("CLOUDTWIN_IMAGES")}
	if o.images == "" {
		o.images = local.DefaultImages()
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.output, "output", filepath.Join("artifacts", "bench.json"), "`file` of the results")
	flags.StringVar(&o.images, "images", o.images, "`folder` of guest images")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a profile for 'go tool pprof' to this `file`")
	flags.BoolVar(&o.list, "list", false, "print the names of all results and end")
	flags.Func("only", "measure only results whose names match this `regexp`", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	if err := flags.Parse(args); err != nil {
		return o, err // it has been said already
	}
	var err error
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("takes no arguments, got %s", flags.Arg(0))
	case o.only != nil && !slices.ContainsFunc(names(), o.only.MatchString):
		err = fmt.Errorf("no result has a name like %s; --list shows all", o.only)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "bench: "+err.Error())
	}
	return o, err
}

// startProfile profiles this process until stop is called; without a path it does nothing.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		return nil, fmt.Errorf("write profile: %w", err)
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// measure runs the benchmarks and writes the results, also when one of them failed.
func measure(ctx context.Context, o options, stdout io.Writer) []error {
	room, err := openWorkroom()
	if err != nil {
		return []error{err}
	}
	s := &suite{images: o.images, only: o.only, room: room, table: newTable(stdout)}
	failures := s.run(ctx, benchmarks())
	if err := room.close(); err != nil {
		failures = append(failures, err)
	}
	if len(s.results) == 0 {
		return failures // an earlier run's file stays
	}
	results := s.results
	if o.only != nil { // a part was measured: the rest of an earlier run stays
		if results, err = beside(o.output, results); err != nil {
			return append(failures, err)
		}
	}
	if err := writeJSON(o.output, results); err != nil {
		return append(failures, err)
	}
	_, _ = fmt.Fprintf(stdout, "\nwritten to %s\n", o.output)
	return failures
}
