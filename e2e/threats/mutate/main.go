// Command mutate shows that package threats would notice if one of the product's checks were gone. It builds the
// program and the suite once, from sources in which each check of mutants.go can be taken out by naming it in an
// environment variable; then it runs, for each check, the specs that are labelled for it without that check, on
// simulated guests, and demands that at least one of them fails. With no check named all must pass. The tree is not
// touched: the altered sources are laid over it by "go build -overlay".
//
// Checks that no attack from outside can reach, such as those of the guests' wire, have unit tests instead (units.go),
// which are run in the same way.
//
//	go run ./e2e/threats/mutate --only '^3:'
//
// The exit code is 1 when a mutant survives, 2 for wrong usage, and 3 when the mutants cannot be made or the specs
// cannot be run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// The exit codes.
const (
	exitSurvivor       = 1
	exitUsage          = 2
	exitInfrastructure = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errs io.Writer) int {
	flags := flag.NewFlagSet("mutate", flag.ContinueOnError)
	flags.SetOutput(errs)
	only := flags.String("only", ".", "regular expression of the mutants' names")
	if err := flags.Parse(args); err != nil {
		return exitUsage
	}
	pattern, err := regexp.Compile(*only)
	if err != nil || flags.NArg() > 0 {
		_, _ = fmt.Fprintf(errs, "mutate: takes --only and a regular expression: %v %q\n", err, flags.Args())
		return exitUsage
	}
	var chosen []mutant
	for _, m := range mutants() {
		if pattern.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		_, _ = fmt.Fprintf(errs, "mutate: no mutant's name matches %q\n", *only)
		return exitUsage
	}
	survivors, err := judge(ctx, chosen, out)
	switch {
	case err != nil:
		_, _ = fmt.Fprintf(errs, "mutate: %v\n", err)
		return exitInfrastructure
	case survivors > 0:
		_, _ = fmt.Fprintf(errs, "mutate: %d of %d mutants survived: no spec notices that their check is gone\n",
			survivors, len(chosen))
		return exitSurvivor
	}
	_, _ = fmt.Fprintf(out, "%d mutants, all noticed\n", len(chosen))
	return 0
}

// judge tries the mutants and prints a line for each. It returns how many survived. Specs that cannot be run are an
// error at the end.
func judge(ctx context.Context, chosen []mutant, out io.Writer) (survivors int, err error) {
	b, err := newBench(ctx, chosen)
	if err != nil {
		return 0, err
	}
	defer b.close()
	if err := b.rehearse(ctx, chosen); err != nil {
		return 0, err
	}
	_, _ = fmt.Fprintf(out, "%-48s %8s  %s\n", "check taken out", "specs s", "noticed by")
	var failed []error
	for _, m := range chosen {
		v, err := b.try(ctx, m)
		if ctx.Err() != nil {
			return survivors, context.Cause(ctx)
		}
		noticed := v.noticedBy
		switch {
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", m.name, err))
			noticed = "NOT TRIED"
		case noticed == "":
			survivors++
			noticed = "NOBODY"
		}
		_, _ = fmt.Fprintf(out, "%-48s %8.1f  %s\n", m.name, v.running.Seconds(), noticed)
	}
	return survivors, errors.Join(failed...)
}

// verdict is what came of a mutant.
type verdict struct {
	running   time.Duration
	noticedBy string // the first spec that failed; empty: none did
}
