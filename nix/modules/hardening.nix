# What no daemon of this project needs. Sandboxes inherit it, and need none of it either.
{
  AmbientCapabilities = "";
  KeyringMode = "private";
  LockPersonality = true;
  NoNewPrivileges = true;
  RestrictRealtime = true;
  RestrictSUIDSGID = true;
  SystemCallArchitectures = "native";
  SystemCallErrorNumber = "EPERM";
}
