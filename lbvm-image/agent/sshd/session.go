package sshd

import (
	"context"

	"golang.org/x/crypto/ssh"
)

// The payloads of a session's requests (RFC 4254, section 6).
type (
	terminalRequest struct {
		Name          string
		Columns, Rows uint32
		Width, Height uint32 // in pixels
		Modes         string
	}
	sizeRequest struct {
		Columns, Rows uint32
		Width, Height uint32
	}
	commandRequest struct{ Command string }
	exitStatus     struct{ Status uint32 }
)

// maxCommand bounds a command line, in bytes, as an argument's length is bounded by Linux.
const maxCommand = 128 << 10

// session runs what one channel asks for: at most one command or shell.
func (s *server) session(ctx context.Context, user string, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	ctx, cancel := context.WithCancel(ctx)
	resized := make(chan Size, 1)
	run := Session{User: user, Stdin: channel, Stdout: channel, Stderr: channel.Stderr()}
	var ended chan struct{} // of the command; nil until it runs
	defer func() {
		cancel()
		if ended != nil {
			<-ended
		}
	}()
	for {
		select {
		case <-ended:
			return
		case r, ok := <-requests:
			if !ok {
				return // the client has gone
			}
			start := false
			answer := func() bool {
				switch r.Type {
				case "pty-req":
					return run.takeTerminal(r.Payload, resized)
				case "window-change":
					return resize(r.Payload, resized)
				case "exec", "shell":
					start = ended == nil && run.takeCommand(r)
					return start
				default: // signals, variables, agents, screens, subsystems
					return false
				}
			}()
			if r.WantReply {
				_ = r.Reply(answer, nil)
			}
			if start {
				ended = make(chan struct{})
				go func() {
					defer close(ended)
					s.run(ctx, run, channel)
				}()
			}
		}
	}
}

// run runs the command and tells the client how it ended.
func (s *server) run(ctx context.Context, session Session, channel ssh.Channel) {
	code := s.cfg.Run(ctx, session)
	_ = channel.CloseWrite()
	_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{uint32(code) & 0xff}))
}

// takeCommand notes what an exec or shell request wants.
func (s *Session) takeCommand(r *ssh.Request) bool {
	if r.Type == "shell" {
		return true
	}
	var wanted commandRequest
	if err := ssh.Unmarshal(r.Payload, &wanted); err != nil || wanted.Command == "" || len(wanted.Command) > maxCommand {
		return false
	}
	s.Command = wanted.Command
	return true
}

func (s *Session) takeTerminal(payload []byte, resized <-chan Size) bool {
	var wanted terminalRequest
	if err := ssh.Unmarshal(payload, &wanted); err != nil {
		return false
	}
	s.Terminal = &Terminal{Name: wanted.Name, Size: Size{wanted.Columns, wanted.Rows}, Resized: resized}
	return true
}

// resize tells a new size; one that nobody has taken yet is forgotten.
func resize(payload []byte, resized chan Size) bool {
	var wanted sizeRequest
	if err := ssh.Unmarshal(payload, &wanted); err != nil {
		return false
	}
	size := Size{wanted.Columns, wanted.Rows}
	for {
		select {
		case resized <- size:
			return true
		default:
		}
		select {
		case <-resized:
		default:
		}
	}
}
