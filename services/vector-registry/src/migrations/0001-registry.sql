-- The registry's whole state. What model-risk managers ask for holds here, whatever the services above it do:
-- versions never change, nobody approves their own, tenants do not see each other, every change is in the audit.
--
-- Roles: persona_owner owns everything and logs in nowhere; persona_service reads and writes for one tenant at a time,
-- the one in the setting persona.tenant; persona_watch reads what workers serve, of all tenants; persona_auditor signs the
-- heads of the audit chains. None of the three owns anything. Errors that are ours have the code PM001 and their stable
-- reason as the name of the constraint.

DO $$
DECLARE
  wanted text;
BEGIN
  -- Roles belong to the cluster: another database of it may have made them, or makes them now.
  FOREACH wanted IN ARRAY ARRAY['persona_owner', 'persona_service', 'persona_watch', 'persona_auditor'] LOOP
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN CONTINUE; END IF;
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
      NULL;
    END;
  END LOOP;
  -- Who may make roles and is no superuser may give itself the owner's, but does not have it by that.
  IF NOT pg_has_role(current_user, 'persona_owner', 'SET') THEN
    EXECUTE format('GRANT persona_owner TO %I WITH INHERIT FALSE, SET TRUE', current_user);
  END IF;
END $$;

CREATE SCHEMA registry;
ALTER SCHEMA registry OWNER TO persona_owner;
SET LOCAL search_path = registry, pg_temp;
SET LOCAL ROLE persona_owner;
GRANT USAGE ON SCHEMA registry TO persona_service, persona_watch, persona_auditor;

-- ---------------------------------------------------------------------------------------------------------------------
-- Words

-- The tenant that the transaction acts for; NULL, which equals nothing, where it has not said.
CREATE FUNCTION current_tenant() RETURNS text LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog
  AS $$ SELECT nullif(current_setting('persona.tenant', true), '') $$;

CREATE DOMAIN resource_id AS text CHECK (VALUE ~ '^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$');
CREATE DOMAIN sha256_hex AS text CHECK (VALUE ~ '^[0-9a-f]{64}$');
-- Who: a person or a service, as its token or certificate says.
CREATE DOMAIN subject AS text CHECK (length(VALUE) BETWEEN 1 AND 256);
CREATE DOMAIN reason AS text CHECK (length(VALUE) <= 1024);
CREATE DOMAIN alpha_hundredths AS integer CHECK (VALUE BETWEEN -120 AND 120);

CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION '% of registry.% is never changed', lower(TG_OP), TG_TABLE_NAME
    USING ERRCODE = 'PM001', CONSTRAINT = TG_ARGV[0];
END $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Tenants and models

CREATE TABLE tenants (
  tenant resource_id PRIMARY KEY,
  display_name text NOT NULL DEFAULT '' CHECK (length(display_name) <= 256),
  context text NOT NULL DEFAULT 'CUSTOMER_FACING' CHECK (context IN ('CUSTOMER_FACING', 'INTERNAL')),
  alpha_cap_hundredths integer CHECK (alpha_cap_hundredths BETWEEN 0 AND 80),
  required_approvals integer NOT NULL DEFAULT 1 CHECK (required_approvals BETWEEN 1 AND 10),
  approvers text[] NOT NULL DEFAULT '{}' CHECK (cardinality(approvers) <= 100 AND array_position(approvers, NULL) IS NULL),
  approval_lifetime_seconds bigint NOT NULL DEFAULT 31536000 CHECK (approval_lifetime_seconds BETWEEN 3600 AND 157680000),
  revocation text NOT NULL DEFAULT 'REMOVE' CHECK (revocation IN ('REMOVE', 'END')),
  staleness_limit_seconds bigint NOT NULL DEFAULT 86400 CHECK (staleness_limit_seconds BETWEEN 1 AND 2592000),
  max_vectors integer NOT NULL DEFAULT 100 CHECK (max_vectors >= 0),
  max_versions integer NOT NULL DEFAULT 1000 CHECK (max_versions >= 0),
  max_personas integer NOT NULL DEFAULT 1000 CHECK (max_personas BETWEEN 0 AND 10000),
  max_stored_bytes bigint NOT NULL DEFAULT 1073741824 CHECK (max_stored_bytes >= 0),
  -- How workers guard the tenant's replies.
  guard_observe_only boolean NOT NULL DEFAULT false,
  guard_window_tokens integer NOT NULL DEFAULT 32 CHECK (guard_window_tokens BETWEEN 8 AND 256),
  guard_band_hundredths integer NOT NULL DEFAULT 15 CHECK (guard_band_hundredths BETWEEN 5 AND 100),
  guard_step_hundredths integer NOT NULL DEFAULT 10 CHECK (guard_step_hundredths BETWEEN 1 AND 80),
  guard_repetition_hundredths integer NOT NULL DEFAULT 75 CHECK (guard_repetition_hundredths BETWEEN 30 AND 100),
  guard_cache text NOT NULL DEFAULT 'KEEP' CHECK (guard_cache IN ('KEEP', 'REPREFILL')),
  guard_twin_share_basis_points integer NOT NULL DEFAULT 100 CHECK (guard_twin_share_basis_points BETWEEN 0 AND 10000),
  guard_refill_tokens integer NOT NULL DEFAULT 0 CHECK (guard_refill_tokens = 0 OR guard_refill_tokens BETWEEN 16 AND 4096),
  -- What the tenant may take of one worker; NULL for as much as the worker has.
  serving_weight integer NOT NULL DEFAULT 100 CHECK (serving_weight BETWEEN 1 AND 1000),
  serving_max_running integer CHECK (serving_max_running >= 1),
  serving_max_waiting integer CHECK (serving_max_waiting >= 1),
  serving_tokens_per_minute integer CHECK (serving_tokens_per_minute >= 1),
  active_persona resource_id,
  active_number integer,
  activated_by subject,
  activated_at timestamptz,
  activation_reason reason,
  -- The use of break-glass that let the active persona past its gate; NULL where it passed by itself.
  active_break_glass uuid,
  etag bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz,
  -- The platform's own chain of audit entries stands under this name.
  CHECK (tenant <> 'platform'),
  CHECK ((active_persona IS NULL) = (active_number IS NULL)),
  CHECK (alpha_cap_hundredths IS NULL OR context = 'INTERNAL' OR alpha_cap_hundredths <= 50)
);

CREATE TABLE models (
  model resource_id PRIMARY KEY,
  model_checksum sha256_hex NOT NULL UNIQUE,
  display_name text NOT NULL DEFAULT '' CHECK (length(display_name) <= 256),
  architecture text NOT NULL CHECK (length(architecture) <= 128),
  layers integer NOT NULL CHECK (layers BETWEEN 1 AND 512),
  hidden_size integer NOT NULL CHECK (hidden_size BETWEEN 1 AND 65536),
  vocabulary_size integer NOT NULL CHECK (vocabulary_size >= 0),
  tokenizer_digest text NOT NULL DEFAULT '' CHECK (tokenizer_digest ~ '^([0-9a-f]{64})?$'),
  reference_norms real[] NOT NULL DEFAULT '{}' CHECK (cardinality(reference_norms) IN (0, layers)),
  etag bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Vectors and versions

CREATE TABLE vectors (
  tenant resource_id NOT NULL REFERENCES tenants,
  vector resource_id NOT NULL,
  display_name text NOT NULL DEFAULT '' CHECK (length(display_name) <= 256),
  description text NOT NULL DEFAULT '' CHECK (length(description) <= 4096),
  etag bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz,
  PRIMARY KEY (tenant, vector)
);

-- Bytes, known by what they are.
CREATE TABLE contents (
  tenant resource_id NOT NULL REFERENCES tenants,
  digest sha256_hex NOT NULL CHECK (digest = encode(sha256(bytes), 'hex')),
  bytes bytea NOT NULL CHECK (octet_length(bytes) BETWEEN 1 AND 3670016),
  size_bytes integer NOT NULL GENERATED ALWAYS AS (octet_length(bytes)) STORED,
  PRIMARY KEY (tenant, digest)
);
-- Float32 values do not compress; trying costs time at every read.
ALTER TABLE contents ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE versions (
  tenant resource_id NOT NULL,
  vector resource_id NOT NULL,
  digest sha256_hex NOT NULL,
  -- Order of publication within the vector, from 1.
  number integer NOT NULL CHECK (number >= 1),
  model_checksum sha256_hex NOT NULL REFERENCES models (model_checksum),
  graph_digest text NOT NULL CHECK (graph_digest ~ '^([0-9a-f]{64})?$'),
  tokenizer_digest text NOT NULL DEFAULT '' CHECK (tokenizer_digest ~ '^([0-9a-f]{64})?$'),
  hidden_size integer NOT NULL,
  layer_count integer NOT NULL,
  layers integer[] NOT NULL CHECK (cardinality(layers) BETWEEN 1 AND 512 AND array_position(layers, NULL) IS NULL),
  site text NOT NULL CHECK (site = 'post_block'),
  -- Canonical JSON, as in the bytes.
  manifest text NOT NULL CHECK (length(manifest) <= 524288),
  pairs text NOT NULL DEFAULT '' CHECK (octet_length(pairs) <= 1048576),
  seed text NOT NULL DEFAULT '' CHECK (seed ~ '^[0-9]{0,20}$'),
  parent_digest sha256_hex,
  submitter subject NOT NULL,
  -- The person who started the job that made it; counts as a submitter.
  requested_by text NOT NULL DEFAULT '' CHECK (length(requested_by) <= 256),
  job text NOT NULL DEFAULT '' CHECK (length(job) <= 256),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, vector, digest),
  UNIQUE (tenant, vector, number),
  FOREIGN KEY (tenant, vector) REFERENCES vectors,
  FOREIGN KEY (tenant, digest) REFERENCES contents,
  FOREIGN KEY (tenant, vector, parent_digest) REFERENCES versions
);
CREATE INDEX ON versions (tenant, digest);
CREATE INDEX ON versions (model_checksum);

-- What versions were seen to do; the one with the highest number holds.
CREATE TABLE evaluations (
  tenant resource_id NOT NULL,
  vector resource_id NOT NULL,
  digest sha256_hex NOT NULL,
  number integer NOT NULL CHECK (number >= 1),
  alpha_min alpha_hundredths NOT NULL,
  alpha_max alpha_hundredths NOT NULL CHECK (alpha_max >= alpha_min),
  figures jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(figures) = 'object' AND octet_length(figures::text) <= 262144),
  evaluator subject NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, vector, digest, number),
  FOREIGN KEY (tenant, vector, digest) REFERENCES versions
);

CREATE TABLE revocations (
  tenant resource_id NOT NULL REFERENCES tenants,
  digest sha256_hex NOT NULL,
  -- The change that tells workers.
  revision bigint NOT NULL,
  reason reason NOT NULL CHECK (reason <> ''),
  revoked_by subject NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, digest),
  FOREIGN KEY (tenant, digest) REFERENCES contents
);

CREATE TABLE aliases (
  tenant resource_id NOT NULL,
  vector resource_id NOT NULL,
  alias resource_id NOT NULL,
  digest sha256_hex NOT NULL,
  -- Of the current target in alias_targets.
  number integer NOT NULL,
  reason reason NOT NULL DEFAULT '',
  updated_by subject NOT NULL,
  break_glass uuid,
  etag bigint NOT NULL DEFAULT 1,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, vector, alias),
  FOREIGN KEY (tenant, vector, digest) REFERENCES versions
);

-- Everything that an alias has pointed at. Numbers go on where an alias is deleted and made again.
CREATE TABLE alias_targets (
  tenant resource_id NOT NULL,
  vector resource_id NOT NULL,
  alias resource_id NOT NULL,
  number integer NOT NULL CHECK (number >= 1),
  digest sha256_hex NOT NULL,
  reason reason NOT NULL DEFAULT '',
  set_by subject NOT NULL,
  break_glass uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, vector, alias, number),
  UNIQUE (tenant, vector, alias, number, digest),
  FOREIGN KEY (tenant, vector, digest) REFERENCES versions
);
-- Where an alias points stands in its history.
ALTER TABLE aliases
  ADD FOREIGN KEY (tenant, vector, alias, number, digest) REFERENCES alias_targets (tenant, vector, alias, number, digest)
    DEFERRABLE INITIALLY DEFERRED;

-- ---------------------------------------------------------------------------------------------------------------------
-- Personas

CREATE TABLE personas (
  tenant resource_id NOT NULL REFERENCES tenants,
  persona resource_id NOT NULL,
  display_name text NOT NULL DEFAULT '' CHECK (length(display_name) <= 256),
  description text NOT NULL DEFAULT '' CHECK (length(description) <= 4096),
  -- Numbers of revisions.
  latest integer NOT NULL,
  released integer CHECK (released <= latest),
  etag bigint NOT NULL DEFAULT 1,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz,
  PRIMARY KEY (tenant, persona)
);

CREATE TABLE persona_revisions (
  tenant resource_id NOT NULL,
  persona resource_id NOT NULL,
  number integer NOT NULL CHECK (number >= 1),
  digest sha256_hex NOT NULL,
  model_checksum sha256_hex NOT NULL REFERENCES models (model_checksum),
  mode text NOT NULL CHECK (mode IN ('ADD', 'ADD_RENORM')),
  positions text NOT NULL CHECK (positions IN ('ALL', 'PROMPT', 'GENERATED')),
  policy text NOT NULL CHECK (policy IN ('ACCEPT', 'SCALE', 'ORTHOGONALIZE', 'REJECT')),
  -- What packages/steering made of it. A revision that was rejected is never stored.
  composition jsonb NOT NULL CHECK (
    (composition ->> 'outcome' IN ('ACCEPTED', 'SCALED', 'ORTHOGONALIZED')) IS TRUE AND octet_length(composition::text) <= 1048576),
  cap_hundredths integer NOT NULL CHECK (cap_hundredths BETWEEN 0 AND 80),
  cause text NOT NULL CHECK (cause IN ('WRITTEN', 'ALIAS_MOVED')),
  created_by subject NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  -- The transaction that wrote it: its terms come with it or never.
  xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (tenant, persona, number),
  FOREIGN KEY (tenant, persona) REFERENCES personas DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE personas
  ADD FOREIGN KEY (tenant, persona, latest) REFERENCES persona_revisions DEFERRABLE INITIALLY DEFERRED,
  ADD FOREIGN KEY (tenant, persona, released) REFERENCES persona_revisions DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE tenants
  ADD FOREIGN KEY (tenant, active_persona, active_number) REFERENCES persona_revisions;

CREATE TABLE persona_terms (
  tenant resource_id NOT NULL,
  persona resource_id NOT NULL,
  number integer NOT NULL,
  -- From 0.
  term integer NOT NULL CHECK (term BETWEEN 0 AND 15),
  vector resource_id NOT NULL,
  -- NULL where the version itself was named.
  alias resource_id,
  digest sha256_hex NOT NULL,
  alpha alpha_hundredths NOT NULL CHECK (abs(alpha) <= 80),
  layers integer[] NOT NULL CHECK (cardinality(layers) BETWEEN 1 AND 512 AND array_position(layers, NULL) IS NULL),
  -- Whether `layers` was written; else it is all that the version has.
  layers_written boolean NOT NULL,
  PRIMARY KEY (tenant, persona, number, term),
  FOREIGN KEY (tenant, persona, number) REFERENCES persona_revisions,
  FOREIGN KEY (tenant, vector, digest) REFERENCES versions
);
CREATE INDEX ON persona_terms (tenant, vector, alias);
CREATE INDEX ON persona_terms (tenant, digest);

-- What was active when.
CREATE TABLE activations (
  tenant resource_id NOT NULL REFERENCES tenants,
  number integer NOT NULL CHECK (number >= 1),
  -- NULL where nothing was active afterwards.
  persona resource_id,
  persona_number integer,
  reason reason NOT NULL DEFAULT '',
  activated_by subject NOT NULL,
  break_glass uuid,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, number),
  FOREIGN KEY (tenant, persona, persona_number) REFERENCES persona_revisions
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Approvals

CREATE TABLE approvals (
  tenant resource_id NOT NULL,
  approval uuid NOT NULL,
  vector resource_id NOT NULL,
  digest sha256_hex NOT NULL,
  decision text NOT NULL CHECK (decision IN ('APPROVE', 'REJECT')),
  approver subject NOT NULL,
  -- Number of the evaluation that held when it was made, 0 for none: what the approver could see of the version.
  evaluation integer NOT NULL DEFAULT 0,
  reason reason NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL CHECK (expires_at > created_at),
  revoked_at timestamptz,
  revoked_by subject,
  etag bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (tenant, approval),
  FOREIGN KEY (tenant, vector, digest) REFERENCES versions,
  CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX ON approvals (tenant, vector, digest);

CREATE TABLE break_glass_uses (
  tenant resource_id NOT NULL REFERENCES tenants,
  use uuid NOT NULL,
  action text NOT NULL CHECK (length(action) <= 64),
  resource text NOT NULL CHECK (length(resource) <= 512),
  actor subject NOT NULL,
  justification reason NOT NULL CHECK (justification <> ''),
  created_at timestamptz NOT NULL DEFAULT now(),
  -- The transaction that it is good for, and no other.
  xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
  reviewer subject,
  accepted boolean,
  note reason,
  reviewed_at timestamptz,
  PRIMARY KEY (tenant, use),
  CHECK ((reviewed_at IS NULL) = (reviewer IS NULL) AND (reviewed_at IS NULL) = (accepted IS NULL)),
  CONSTRAINT "SELF_REVIEW" CHECK (reviewer IS DISTINCT FROM actor)
);

-- What depends on policy, approvals and revocations of a tenant happens one after the other, so that a gate cannot be passed
-- beside a change that closes it. The lock is the tenant's row, until the end of the transaction.
CREATE FUNCTION take_turn(of_tenant text) RETURNS void LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  -- Under another tenant's eyes every table looks empty, and a gate would judge by what it does not see.
  IF of_tenant IS DISTINCT FROM current_tenant() THEN
    RAISE EXCEPTION 'tenant % is changed while acting for %', of_tenant, current_tenant()
      USING ERRCODE = 'PM001', CONSTRAINT = 'TENANT_SWITCHED';
  END IF;
  PERFORM FROM tenants t WHERE t.tenant = of_tenant FOR NO KEY UPDATE;
END $$;

-- Approver and submitter are different people, and approvals are only ever withdrawn.
CREATE FUNCTION guard_approval() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
DECLARE
  allowed text[];
  lifetime bigint;
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF ROW(OLD.tenant, OLD.approval, OLD.vector, OLD.digest, OLD.decision, OLD.approver, OLD.evaluation, OLD.reason, OLD.created_at,
           OLD.expires_at)
       IS DISTINCT FROM
       ROW(NEW.tenant, NEW.approval, NEW.vector, NEW.digest, NEW.decision, NEW.approver, NEW.evaluation, NEW.reason, NEW.created_at,
           NEW.expires_at)
       OR OLD.revoked_at IS NOT NULL THEN
      RAISE EXCEPTION 'an approval can only be withdrawn, once' USING ERRCODE = 'PM001', CONSTRAINT = 'APPROVAL_IMMUTABLE';
    END IF;
    PERFORM take_turn(NEW.tenant);
    -- Taking a rejection of one's own version away would be approving it by the back door.
    IF NEW.decision = 'REJECT' AND EXISTS (
         SELECT FROM versions v WHERE (v.tenant, v.vector, v.digest) = (NEW.tenant, NEW.vector, NEW.digest)
           AND NEW.revoked_by IN (v.submitter, v.requested_by)) THEN
      RAISE EXCEPTION '% made version % and cannot withdraw its rejection', NEW.revoked_by, NEW.digest
        USING ERRCODE = 'PM001', CONSTRAINT = 'SELF_APPROVAL';
    END IF;
    RETURN NEW;
  END IF;
  PERFORM take_turn(NEW.tenant);
  -- The same bytes under another vector are the same work.
  IF EXISTS (SELECT FROM versions v WHERE (v.tenant, v.digest) = (NEW.tenant, NEW.digest)
             AND NEW.approver IN (v.submitter, v.requested_by)) THEN
    RAISE EXCEPTION '% made version % and cannot approve it', NEW.approver, NEW.digest
      USING ERRCODE = 'PM001', CONSTRAINT = 'SELF_APPROVAL';
  END IF;
  SELECT t.approvers, t.approval_lifetime_seconds INTO STRICT allowed, lifetime FROM tenants t WHERE t.tenant = NEW.tenant;
  IF cardinality(allowed) > 0 AND NOT NEW.approver = ANY (allowed) THEN
    RAISE EXCEPTION '% is not one of the approvers that the policy of % names', NEW.approver, NEW.tenant
      USING ERRCODE = 'PM001', CONSTRAINT = 'NOT_AN_APPROVER';
  END IF;
  IF EXISTS (SELECT FROM approvals a
             WHERE (a.tenant, a.vector, a.digest, a.approver) = (NEW.tenant, NEW.vector, NEW.digest, NEW.approver)
               AND a.revoked_at IS NULL AND a.expires_at > now()) THEN
    RAISE EXCEPTION '% has decided on version % already', NEW.approver, NEW.digest
      USING ERRCODE = 'PM001', CONSTRAINT = 'ALREADY_DECIDED';
  END IF;
  -- It holds from now on, as long as the policy lets it, and nobody has withdrawn it yet.
  NEW.created_at := now();
  NEW.expires_at := least(NEW.expires_at, now() + make_interval(secs => lifetime));
  NEW.evaluation := coalesce((SELECT max(e.number) FROM evaluations e
    WHERE (e.tenant, e.vector, e.digest) = (NEW.tenant, NEW.vector, NEW.digest)), 0);
  NEW.revoked_at := NULL;
  NEW.revoked_by := NULL;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON approvals FOR EACH ROW EXECUTE FUNCTION guard_approval();
CREATE TRIGGER keep BEFORE DELETE ON approvals FOR EACH ROW EXECUTE FUNCTION refuse('APPROVAL_IMMUTABLE');

CREATE FUNCTION guard_break_glass() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    NEW.xact := pg_current_xact_id();
    NEW.created_at := now();
    NEW.reviewer := NULL;
    NEW.accepted := NULL;
    NEW.note := NULL;
    NEW.reviewed_at := NULL;
    RETURN NEW;
  END IF;
  IF ROW(OLD.tenant, OLD.use, OLD.action, OLD.resource, OLD.actor, OLD.justification, OLD.created_at, OLD.xact)
     IS DISTINCT FROM
     ROW(NEW.tenant, NEW.use, NEW.action, NEW.resource, NEW.actor, NEW.justification, NEW.created_at, NEW.xact)
     OR OLD.reviewed_at IS NOT NULL THEN
    RAISE EXCEPTION 'a use of break-glass can only be reviewed, once' USING ERRCODE = 'PM001', CONSTRAINT = 'ALREADY_REVIEWED';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON break_glass_uses FOR EACH ROW EXECUTE FUNCTION guard_break_glass();
CREATE TRIGGER keep BEFORE DELETE ON break_glass_uses FOR EACH ROW EXECUTE FUNCTION refuse('ALREADY_REVIEWED');

-- ---------------------------------------------------------------------------------------------------------------------
-- The gate before production

-- How many different people approve of a version now, whether anyone rejects it, and when the first approval that it
-- cannot do without runs out.
CREATE FUNCTION approval_of(of_tenant text, of_vector text, of_digest text,
                            OUT approvals integer, OUT required integer, OUT rejected boolean, OUT expires_at timestamptz)
LANGUAGE sql STABLE SET search_path = registry, pg_temp AS $$
  WITH policy AS (SELECT t.required_approvals, t.approvers FROM tenants t WHERE t.tenant = of_tenant),
  decisions AS (
    SELECT a.decision, a.approver, a.expires_at FROM approvals a, policy p
    WHERE (a.tenant, a.vector, a.digest) = (of_tenant, of_vector, of_digest)
      AND a.revoked_at IS NULL AND a.expires_at > now()
      AND (cardinality(p.approvers) = 0 OR a.approver = ANY (p.approvers))),
  approving AS (
    SELECT approver, max(d.expires_at) AS expires_at FROM decisions d WHERE decision = 'APPROVE' GROUP BY approver)
  SELECT (SELECT count(*) FROM approving)::integer,
         (SELECT required_approvals FROM policy),
         EXISTS (SELECT FROM decisions WHERE decision = 'REJECT'),
         -- With N needed, the N-th latest expiry is the moment when fewer than N are left.
         (SELECT a.expires_at FROM approving a ORDER BY a.expires_at DESC
           OFFSET (SELECT required_approvals - 1 FROM policy) LIMIT 1)
$$;

-- What stands between a version, used at an alpha, and production; no rows when nothing does.
CREATE FUNCTION version_gate(of_tenant text, of_vector text, of_digest text, at_alpha integer)
RETURNS TABLE (reason text, message text) LANGUAGE sql STABLE SET search_path = registry, pg_temp AS $$
  SELECT 'VERSION_REVOKED', format('version %s is revoked', of_digest)
    WHERE EXISTS (SELECT FROM revocations r WHERE (r.tenant, r.digest) = (of_tenant, of_digest))
  UNION ALL
  SELECT 'NOT_APPROVED',
         CASE WHEN a.rejected THEN format('version %s was rejected', of_digest)
              ELSE format('version %s has %s of %s approvals', of_digest, a.approvals, a.required) END
    FROM approval_of(of_tenant, of_vector, of_digest) a
    WHERE a.rejected OR (a.approvals >= a.required) IS NOT TRUE
  UNION ALL
  -- Who approved a version approved of the alphas that it was validated for by then: where a range that somebody widened
  -- later is used, approvals are asked for anew.
  SELECT 'NOT_APPROVED', format('version %s has %s of %s approvals that were given when alpha %s was validated',
                                of_digest, c.covering, a.required, round(at_alpha / 100.0, 2))
    FROM approval_of(of_tenant, of_vector, of_digest) a,
      LATERAL (
        SELECT count(DISTINCT p.approver) AS covering
        FROM approvals p
        JOIN evaluations e ON (e.tenant, e.vector, e.digest, e.number) = (p.tenant, p.vector, p.digest, p.evaluation)
        JOIN tenants t ON t.tenant = p.tenant
        WHERE (p.tenant, p.vector, p.digest) = (of_tenant, of_vector, of_digest) AND p.decision = 'APPROVE'
          AND p.revoked_at IS NULL AND p.expires_at > now() AND at_alpha BETWEEN e.alpha_min AND e.alpha_max
          AND (cardinality(t.approvers) = 0 OR p.approver = ANY (t.approvers))) c
    WHERE at_alpha IS NOT NULL AND a.approvals >= a.required AND c.covering < a.required
      AND at_alpha BETWEEN (SELECT v.alpha_min FROM evaluations v
                            WHERE (v.tenant, v.vector, v.digest) = (of_tenant, of_vector, of_digest)
                            ORDER BY v.number DESC LIMIT 1)
                       AND (SELECT v.alpha_max FROM evaluations v
                            WHERE (v.tenant, v.vector, v.digest) = (of_tenant, of_vector, of_digest)
                            ORDER BY v.number DESC LIMIT 1)
  UNION ALL
  SELECT 'ALPHA_NOT_VALIDATED',
         CASE WHEN e.alpha_min IS NULL THEN format('version %s has no validated range of alphas', of_digest)
              ELSE format('alpha %s is outside the validated range %s to %s of version %s', round(at_alpha / 100.0, 2),
                          round(e.alpha_min / 100.0, 2), round(e.alpha_max / 100.0, 2), of_digest) END
    FROM (SELECT) one
    LEFT JOIN LATERAL (
      SELECT v.alpha_min, v.alpha_max FROM evaluations v
      WHERE (v.tenant, v.vector, v.digest) = (of_tenant, of_vector, of_digest) ORDER BY v.number DESC LIMIT 1) e ON true
    WHERE at_alpha IS NOT NULL AND (e.alpha_min IS NULL OR at_alpha NOT BETWEEN e.alpha_min AND e.alpha_max)
$$;

-- The same for a whole revision of a persona.
CREATE FUNCTION persona_gate(of_tenant text, of_persona text, of_number integer)
RETURNS TABLE (term integer, reason text, message text) LANGUAGE sql STABLE SET search_path = registry, pg_temp AS $$
  SELECT t.term, g.reason, g.message
    FROM persona_terms t, version_gate(t.tenant, t.vector, t.digest, t.alpha) g
    WHERE (t.tenant, t.persona, t.number) = (of_tenant, of_persona, of_number)
  UNION ALL
  SELECT t.term, 'ALPHA_OVER_CAP', format('alpha %s is over the cap %s', round(t.alpha / 100.0, 2), round(c.cap / 100.0, 2))
    FROM persona_terms t, LATERAL (
      SELECT coalesce(n.alpha_cap_hundredths, CASE n.context WHEN 'INTERNAL' THEN 80 ELSE 50 END) AS cap
      FROM tenants n WHERE n.tenant = of_tenant) c
    WHERE (t.tenant, t.persona, t.number) = (of_tenant, of_persona, of_number) AND abs(t.alpha) > c.cap
  UNION ALL
  SELECT NULL, 'NOT_COMPOSED', 'the revision has no stored composition'
    WHERE NOT EXISTS (SELECT FROM persona_revisions r, persona_terms t
                      WHERE (r.tenant, r.persona, r.number) = (of_tenant, of_persona, of_number)
                        AND (t.tenant, t.persona, t.number) = (of_tenant, of_persona, of_number)
                        AND jsonb_path_exists(r.composition, 'lax $.layers[*].dose ? (@ >= 0)'))
  UNION ALL
  -- Composed under a higher cap than today's. The budget and its tolerance are those of packages/steering.
  SELECT NULL, 'DOSE_OVER_BUDGET',
         format('dose %s at a layer and %s in all are over the budget of cap %s', round(d.largest::numeric, 3),
                round(d.total::numeric, 3), round(c.cap / 100.0, 2))
    FROM persona_revisions r,
      LATERAL (SELECT max(dose::float8) AS largest, sum(dose::float8) AS total
               FROM jsonb_path_query(r.composition, 'lax $.layers[*].dose ? (@ >= 0)') dose) d,
      LATERAL (SELECT coalesce(n.alpha_cap_hundredths, CASE n.context WHEN 'INTERNAL' THEN 80 ELSE 50 END) AS cap
               FROM tenants n WHERE n.tenant = of_tenant) c
    WHERE (r.tenant, r.persona, r.number) = (of_tenant, of_persona, of_number)
      AND (d.largest > c.cap / 100.0 * 1.0004 OR d.total > 2 * c.cap / 100.0 * 1.0004)
  UNION ALL
  SELECT NULL, 'MODEL_NOT_FOUND', format('model %s is not registered any more', r.model_checksum)
    FROM persona_revisions r
    WHERE (r.tenant, r.persona, r.number) = (of_tenant, of_persona, of_number)
      AND NOT EXISTS (SELECT FROM models m WHERE m.model_checksum = r.model_checksum AND m.deleted_at IS NULL)
$$;

-- Whether a use of break-glass was written down for this very transaction.
CREATE FUNCTION glass_is_broken(of_tenant text, by_use uuid) RETURNS boolean LANGUAGE sql STABLE SET search_path = registry, pg_temp AS $$
  SELECT EXISTS (SELECT FROM break_glass_uses b
                 WHERE (b.tenant, b.use) = (of_tenant, by_use) AND b.xact = pg_current_xact_id_if_assigned())
$$;

CREATE FUNCTION guard_alias() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
DECLARE
  finding record;
BEGIN
  -- A withdrawn approval does not stop what runs; only moving is guarded.
  IF TG_OP = 'UPDATE'
     AND ROW(NEW.tenant, NEW.vector, NEW.alias, NEW.digest) IS NOT DISTINCT FROM ROW(OLD.tenant, OLD.vector, OLD.alias, OLD.digest) THEN
    RETURN NEW;
  END IF;
  PERFORM take_turn(NEW.tenant);
  FOR finding IN SELECT g.reason, g.message FROM version_gate(NEW.tenant, NEW.vector, NEW.digest, NULL) g LOOP
    -- Nothing points at a revoked version again, not even in an emergency; other aliases than production are for trying.
    IF finding.reason = 'VERSION_REVOKED'
       OR (NEW.alias = 'production' AND NOT glass_is_broken(NEW.tenant, NEW.break_glass)) THEN
      RAISE EXCEPTION '%', finding.message USING ERRCODE = 'PM001', CONSTRAINT = finding.reason;
    END IF;
  END LOOP;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON aliases FOR EACH ROW EXECUTE FUNCTION guard_alias();

CREATE FUNCTION guard_active() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
DECLARE
  finding record;
BEGIN
  IF NEW.active_persona IS NULL
     OR ROW(NEW.active_persona, NEW.active_number) IS NOT DISTINCT FROM ROW(OLD.active_persona, OLD.active_number) THEN
    RETURN NEW;
  END IF;
  IF NEW.tenant IS DISTINCT FROM current_tenant() THEN
    RAISE EXCEPTION 'only tenant % activates its personas', NEW.tenant USING ERRCODE = 'PM001', CONSTRAINT = 'TENANT_SWITCHED';
  END IF;
  IF EXISTS (SELECT FROM personas p WHERE (p.tenant, p.persona) = (NEW.tenant, NEW.active_persona) AND p.deleted_at IS NOT NULL) THEN
    RAISE EXCEPTION 'persona % is deleted', NEW.active_persona USING ERRCODE = 'PM001', CONSTRAINT = 'RESOURCE_DELETED';
  END IF;
  FOR finding IN SELECT g.reason, g.message FROM persona_gate(NEW.tenant, NEW.active_persona, NEW.active_number) g LOOP
    -- Break-glass skips people, not what was measured or withdrawn.
    IF finding.reason <> 'NOT_APPROVED' OR NOT glass_is_broken(NEW.tenant, NEW.active_break_glass) THEN
      RAISE EXCEPTION '%', finding.message USING ERRCODE = 'PM001', CONSTRAINT = finding.reason;
    END IF;
  END LOOP;
  RETURN NEW;
END $$;
CREATE TRIGGER guard_active BEFORE INSERT OR UPDATE ON tenants FOR EACH ROW EXECUTE FUNCTION guard_active();

-- What is active stands in the history of activations, last.
CREATE FUNCTION require_activation() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
DECLARE
  last activations%ROWTYPE;
BEGIN
  IF ROW(NEW.active_persona, NEW.active_number) IS NOT DISTINCT FROM ROW(OLD.active_persona, OLD.active_number) THEN
    RETURN NULL;
  END IF;
  SELECT * INTO last FROM activations a WHERE a.tenant = NEW.tenant ORDER BY a.number DESC LIMIT 1;
  IF ROW(last.persona, last.persona_number) IS DISTINCT FROM
     (SELECT ROW(t.active_persona, t.active_number) FROM tenants t WHERE t.tenant = NEW.tenant) THEN
    RAISE EXCEPTION 'the active persona of % changed without an entry in its history', NEW.tenant
      USING ERRCODE = 'PM001', CONSTRAINT = 'HISTORY_MISSING';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER kept_in_history AFTER INSERT OR UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION require_activation();

CREATE FUNCTION guard_release() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
DECLARE
  finding record;
BEGIN
  IF NEW.deleted_at IS NOT NULL THEN
    PERFORM take_turn(NEW.tenant);
    IF EXISTS (SELECT FROM tenants t WHERE (t.tenant, t.active_persona) = (NEW.tenant, NEW.persona)) THEN
      RAISE EXCEPTION 'persona % is active', NEW.persona USING ERRCODE = 'PM001', CONSTRAINT = 'PERSONA_ACTIVE';
    END IF;
  END IF;
  IF NEW.released IS NULL OR (TG_OP = 'UPDATE' AND NEW.released IS NOT DISTINCT FROM OLD.released) THEN RETURN NULL; END IF;
  PERFORM take_turn(NEW.tenant);
  FOR finding IN SELECT g.reason, g.message FROM persona_gate(NEW.tenant, NEW.persona, NEW.released) g LOOP
    RAISE EXCEPTION '%', finding.message USING ERRCODE = 'PM001', CONSTRAINT = finding.reason;
  END LOOP;
  RETURN NULL;
END $$;
-- Deferred: a persona and its first revision refer to each other.
CREATE CONSTRAINT TRIGGER guard_release AFTER INSERT OR UPDATE ON personas DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION guard_release();

-- A revision and its terms are written together, and nothing is added to it later.
CREATE FUNCTION stamp_revision() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  NEW.xact := pg_current_xact_id();
  RETURN NEW;
END $$;
CREATE TRIGGER stamp BEFORE INSERT ON persona_revisions FOR EACH ROW EXECUTE FUNCTION stamp_revision();

CREATE FUNCTION guard_term() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
DECLARE
  revision persona_revisions%ROWTYPE;
  version versions%ROWTYPE;
BEGIN
  SELECT * INTO STRICT revision FROM persona_revisions r
    WHERE (r.tenant, r.persona, r.number) = (NEW.tenant, NEW.persona, NEW.number);
  IF revision.xact <> pg_current_xact_id()
     OR EXISTS (SELECT FROM tenants t WHERE (t.tenant, t.active_persona, t.active_number) = (NEW.tenant, NEW.persona, NEW.number)) THEN
    RAISE EXCEPTION 'revision % of persona % is complete', NEW.number, NEW.persona
      USING ERRCODE = 'PM001', CONSTRAINT = 'REVISION_IMMUTABLE';
  END IF;
  SELECT * INTO STRICT version FROM versions v
    WHERE (v.tenant, v.vector, v.digest) = (NEW.tenant, NEW.vector, NEW.digest);
  IF version.model_checksum <> revision.model_checksum THEN
    RAISE EXCEPTION 'term % is for model %, the revision for %', NEW.term, version.model_checksum, revision.model_checksum
      USING ERRCODE = 'PM001', CONSTRAINT = 'MODEL_MISMATCH';
  END IF;
  IF NOT NEW.layers <@ version.layers THEN
    RAISE EXCEPTION 'term % names layers that version % does not have', NEW.term, NEW.digest
      USING ERRCODE = 'PM001', CONSTRAINT = 'LAYER_OUT_OF_RANGE';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON persona_terms FOR EACH ROW EXECUTE FUNCTION guard_term();

-- What versions were checked against stays what it was.
CREATE FUNCTION guard_model() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  IF ROW(OLD.model, OLD.model_checksum, OLD.layers, OLD.hidden_size) IS DISTINCT FROM
     ROW(NEW.model, NEW.model_checksum, NEW.layers, NEW.hidden_size)
     OR OLD.tokenizer_digest NOT IN ('', NEW.tokenizer_digest) THEN
    RAISE EXCEPTION 'the weights and the shape of model % are what it is', OLD.model
      USING ERRCODE = 'PM001', CONSTRAINT = 'MODEL_IMMUTABLE';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE UPDATE ON models FOR EACH ROW EXECUTE FUNCTION guard_model();

-- What a vector file says of itself: 8 bytes of little-endian length, then a JSON header, as safetensors has it.
CREATE FUNCTION manifest_in(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog AS $$
DECLARE
  length integer;
BEGIN
  length := get_byte(bytes, 0) + (get_byte(bytes, 1) << 8) + (get_byte(bytes, 2) << 16);
  RETURN convert_from(substring(bytes FROM 9 FOR length), 'UTF8')::jsonb -> '__metadata__' ->> 'manifest';
EXCEPTION WHEN data_exception THEN
  RETURN NULL;
END $$;

-- A version says what its bytes say, for those are what people approve, and fits its model, whoever publishes it.
CREATE FUNCTION guard_version() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
DECLARE
  model models%ROWTYPE;
  said jsonb;
BEGIN
  IF NEW.manifest IS DISTINCT FROM
     (SELECT manifest_in(c.bytes) FROM contents c WHERE (c.tenant, c.digest) = (NEW.tenant, NEW.digest)) THEN
    RAISE EXCEPTION 'the manifest is not that of the bytes of %', NEW.digest
      USING ERRCODE = 'PM001', CONSTRAINT = 'VERSION_INCONSISTENT';
  END IF;
  said := NEW.manifest::jsonb;
  IF (said ->> 'modelChecksum', said -> 'hiddenSize', said -> 'layerCount', said ->> 'site', said -> 'layers',
      coalesce(said ->> 'graphDigest', '')) IS DISTINCT FROM
     (NEW.model_checksum::text, to_jsonb(NEW.hidden_size), to_jsonb(NEW.layer_count), NEW.site, to_jsonb(NEW.layers),
      NEW.graph_digest) THEN
    RAISE EXCEPTION 'the manifest of % says otherwise than its columns', NEW.digest
      USING ERRCODE = 'PM001', CONSTRAINT = 'VERSION_INCONSISTENT';
  END IF;
  SELECT * INTO model FROM models m WHERE m.model_checksum = NEW.model_checksum AND m.deleted_at IS NULL;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no model with the checksum % is registered', NEW.model_checksum
      USING ERRCODE = 'PM001', CONSTRAINT = 'MODEL_NOT_FOUND';
  END IF;
  IF NEW.hidden_size <> model.hidden_size OR NEW.layer_count <> model.layers
     OR EXISTS (SELECT FROM unnest(NEW.layers) l WHERE l NOT BETWEEN 0 AND model.layers - 1)
     OR (NEW.tokenizer_digest <> '' AND model.tokenizer_digest <> '' AND NEW.tokenizer_digest <> model.tokenizer_digest) THEN
    RAISE EXCEPTION 'the version is for % layers of %, model % has % layers of %',
      NEW.layer_count, NEW.hidden_size, model.model, model.layers, model.hidden_size
      USING ERRCODE = 'PM001', CONSTRAINT = 'MODEL_MISMATCH';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON versions FOR EACH ROW EXECUTE FUNCTION guard_version();

-- Whether any tenant has a version of a model: all that the platform learns of what tenants have.
CREATE FUNCTION model_is_used(checksum text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
  SET search_path = registry, pg_temp
  AS $$ SELECT current_tenant() = 'platform' AND EXISTS (SELECT FROM versions v WHERE v.model_checksum = checksum) $$;
-- It runs as the owner, whom FORCE binds too.
CREATE POLICY counted ON versions FOR SELECT TO persona_owner USING (true);

-- Written once, for ever.
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON contents FOR EACH ROW EXECUTE FUNCTION refuse('VERSION_IMMUTABLE');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON versions FOR EACH ROW EXECUTE FUNCTION refuse('VERSION_IMMUTABLE');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON evaluations FOR EACH ROW EXECUTE FUNCTION refuse('VERSION_IMMUTABLE');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON revocations FOR EACH ROW EXECUTE FUNCTION refuse('VERSION_IMMUTABLE');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON alias_targets FOR EACH ROW EXECUTE FUNCTION refuse('HISTORY_IMMUTABLE');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON activations FOR EACH ROW EXECUTE FUNCTION refuse('HISTORY_IMMUTABLE');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON persona_revisions FOR EACH ROW EXECUTE FUNCTION refuse('REVISION_IMMUTABLE');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON persona_terms FOR EACH ROW EXECUTE FUNCTION refuse('REVISION_IMMUTABLE');

-- ---------------------------------------------------------------------------------------------------------------------
-- Audit

-- The newest entry of each chain. Its lock orders the writers of a chain.
CREATE TABLE audit_heads (
  tenant resource_id NOT NULL,
  chain text NOT NULL CHECK (chain IN ('CHANGES', 'READS')),
  sequence bigint NOT NULL,
  hash sha256_hex NOT NULL,
  -- The transaction that wrote it.
  xact xid8 NOT NULL,
  PRIMARY KEY (tenant, chain)
);

CREATE TABLE audit (
  tenant resource_id NOT NULL,
  chain text NOT NULL CHECK (chain IN ('CHANGES', 'READS')),
  sequence bigint NOT NULL,
  payload text NOT NULL CHECK (octet_length(payload) <= 1048576 AND payload IS JSON OBJECT WITH UNIQUE KEYS),
  previous_hash sha256_hex NOT NULL,
  hash sha256_hex NOT NULL,
  -- What lists are narrowed by; out of the payload, so that they cannot say otherwise.
  actor text NOT NULL GENERATED ALWAYS AS (coalesce((payload::jsonb) ->> 'actor', '')) STORED,
  action text NOT NULL GENERATED ALWAYS AS (coalesce((payload::jsonb) ->> 'action', '')) STORED,
  resource text NOT NULL GENERATED ALWAYS AS (coalesce((payload::jsonb) ->> 'resource', '')) STORED,
  PRIMARY KEY (tenant, chain, sequence)
);
CREATE INDEX ON audit (tenant, chain, resource text_pattern_ops, sequence);

-- Links an entry to its chain: writers give tenant, chain and payload alone.
CREATE FUNCTION link_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = registry, pg_temp AS $$
DECLARE
  head audit_heads%ROWTYPE;
BEGIN
  INSERT INTO audit_heads (tenant, chain, sequence, hash, xact)
    VALUES (NEW.tenant, NEW.chain, 0, repeat('0', 64), pg_current_xact_id()) ON CONFLICT DO NOTHING;
  SELECT * INTO STRICT head FROM audit_heads h WHERE (h.tenant, h.chain) = (NEW.tenant, NEW.chain) FOR UPDATE;
  NEW.sequence := head.sequence + 1;
  NEW.previous_hash := head.hash;
  NEW.hash := encode(sha256(convert_to(NEW.sequence || E'\n' || NEW.previous_hash || E'\n' || NEW.payload, 'UTF8')), 'hex');
  UPDATE audit_heads h SET sequence = NEW.sequence, hash = NEW.hash, xact = pg_current_xact_id()
    WHERE (h.tenant, h.chain) = (NEW.tenant, NEW.chain);
  RETURN NEW;
END $$;
CREATE TRIGGER link BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION link_audit();
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION refuse('AUDIT_APPEND_ONLY');
CREATE TRIGGER keep_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION refuse('AUDIT_APPEND_ONLY');

-- At the end of a transaction: what changed a tenant also wrote to its chain, or, where the platform acts, to the platform's.
-- The heads tell, whoever wrote them; so no other function may move them, and no other table have this trigger (see the
-- privileges of functions below).
CREATE FUNCTION require_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = registry, pg_temp AS $$
DECLARE
  changed text := CASE WHEN TG_ARGV[0] = 'platform' THEN 'platform' ELSE to_jsonb(coalesce(NEW, OLD)) ->> 'tenant' END;
BEGIN
  IF NOT EXISTS (SELECT FROM audit_heads h
                 WHERE (h.tenant = changed OR (h.tenant = 'platform' AND current_tenant() = 'platform'))
                   AND h.chain = 'CHANGES' AND h.xact = pg_current_xact_id()) THEN
    RAISE EXCEPTION '% of registry.% without an audit entry', lower(TG_OP), TG_TABLE_NAME
      USING ERRCODE = 'PM001', CONSTRAINT = 'AUDIT_MISSING';
  END IF;
  RETURN NULL;
END $$;

DO $$
DECLARE
  governed text;
BEGIN
  FOREACH governed IN ARRAY ARRAY['tenants', 'vectors', 'contents', 'versions', 'evaluations', 'revocations', 'aliases',
    'alias_targets', 'personas', 'persona_revisions', 'persona_terms', 'activations', 'approvals', 'break_glass_uses'] LOOP
    EXECUTE format('CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON %I
      DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_audit()', governed);
  END LOOP;
  EXECUTE 'CREATE CONSTRAINT TRIGGER audited AFTER INSERT OR UPDATE OR DELETE ON models
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION require_audit(''platform'')';
END $$;

-- Signed heads of all chains; also written outside the database.
CREATE TABLE audit_roots (
  number bigint PRIMARY KEY CHECK (number >= 1),
  body text NOT NULL CHECK (body IS JSON OBJECT),
  signature bytea NOT NULL CHECK (octet_length(signature) = 64),
  key_id text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
-- The heads that moved under a root, with the proof that it covers them. A chain has the same leaf under all roots, in the
-- order in which chains appeared; under a root where it did not move it stands as under the one before.
CREATE TABLE audit_root_heads (
  leaf bigint NOT NULL CHECK (leaf >= 0),
  number bigint NOT NULL REFERENCES audit_roots,
  tenant resource_id NOT NULL,
  chain text NOT NULL CHECK (chain IN ('CHANGES', 'READS')),
  -- 0 for a chain without entries: that it has none is signed too.
  sequence bigint NOT NULL CHECK (sequence >= 0),
  hash sha256_hex NOT NULL,
  -- Siblings from the leaf up, 32 bytes each.
  path bytea NOT NULL CHECK (octet_length(path) % 32 = 0),
  PRIMARY KEY (leaf, number),
  UNIQUE (tenant, chain, number)
);
CREATE TABLE audit_keys (
  key_id text PRIMARY KEY,
  jwk text NOT NULL CHECK (jwk IS JSON OBJECT AND (jwk::jsonb) ->> 'd' IS NULL),
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON audit_roots FOR EACH ROW EXECUTE FUNCTION refuse('AUDIT_APPEND_ONLY');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON audit_root_heads FOR EACH ROW EXECUTE FUNCTION refuse('AUDIT_APPEND_ONLY');
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON audit_keys FOR EACH ROW EXECUTE FUNCTION refuse('AUDIT_APPEND_ONLY');

-- ---------------------------------------------------------------------------------------------------------------------
-- Distribution

-- One row. Its lock is held until the transaction that takes a revision commits: revisions commit in their order.
CREATE TABLE revision_counter (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  revision bigint NOT NULL,
  -- Changes up to it are compacted away.
  compacted bigint NOT NULL DEFAULT 0 CHECK (compacted BETWEEN 0 AND revision),
  -- The transaction that took the revision.
  xact xid8 NOT NULL DEFAULT pg_current_xact_id()
);
INSERT INTO revision_counter (revision) VALUES (0);

-- Forward, one at a time.
CREATE FUNCTION count_revision() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  IF NEW.revision NOT IN (OLD.revision, OLD.revision + 1) THEN
    RAISE EXCEPTION 'revision % does not follow %', NEW.revision, OLD.revision
      USING ERRCODE = 'PM001', CONSTRAINT = 'REVISION_ORDER';
  END IF;
  IF NEW.revision > OLD.revision THEN NEW.xact := pg_current_xact_id(); END IF;
  NEW.compacted := greatest(OLD.compacted, NEW.compacted);
  RETURN NEW;
END $$;
CREATE TRIGGER count BEFORE UPDATE ON revision_counter FOR EACH ROW EXECUTE FUNCTION count_revision();

-- What bears a revision was written by the transaction that took it: watchers read nothing twice and miss nothing.
CREATE FUNCTION require_revision() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM revision_counter c WHERE c.revision = NEW.revision AND c.xact = pg_current_xact_id()) THEN
    RAISE EXCEPTION 'revision % was not taken by this transaction', NEW.revision
      USING ERRCODE = 'PM001', CONSTRAINT = 'REVISION_ORDER';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER numbered BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION require_revision();

-- A revocation waits for gates that are being passed, and they for it.
CREATE FUNCTION guard_revocation() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  PERFORM take_turn(NEW.tenant);
  RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON revocations FOR EACH ROW EXECUTE FUNCTION guard_revocation();

CREATE TABLE changes (
  revision bigint NOT NULL,
  part integer NOT NULL,
  tenant resource_id NOT NULL,
  -- NULL where it is for every model.
  model_checksum sha256_hex,
  -- persona.registry.v1.Change, binary.
  body bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (revision, part)
);
CREATE TRIGGER numbered BEFORE INSERT ON changes FOR EACH ROW EXECUTE FUNCTION require_revision();
CREATE TRIGGER keep BEFORE UPDATE ON changes FOR EACH ROW EXECUTE FUNCTION refuse('HISTORY_IMMUTABLE');

-- Only what the counter says is gone may go.
CREATE FUNCTION guard_compaction() RETURNS trigger LANGUAGE plpgsql SET search_path = registry, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM revision_counter c WHERE c.compacted >= OLD.revision) THEN
    RAISE EXCEPTION 'revision % is not compacted', OLD.revision USING ERRCODE = 'PM001', CONSTRAINT = 'HISTORY_IMMUTABLE';
  END IF;
  RETURN OLD;
END $$;
CREATE TRIGGER guard BEFORE DELETE ON changes FOR EACH ROW EXECUTE FUNCTION guard_compaction();

-- What workers say of themselves.
CREATE TABLE workers (
  worker text NOT NULL CHECK (length(worker) BETWEEN 1 AND 128),
  model_checksum sha256_hex NOT NULL,
  state text NOT NULL CHECK (state IN ('NOT_READY', 'READY', 'STALE', 'ERROR')),
  applied_revision bigint NOT NULL,
  problems jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(problems) = 'array' AND octet_length(problems::text) <= 1048576),
  reported_at timestamptz NOT NULL DEFAULT now(),
  -- Renewed while a replica has the worker's watch.
  connected_until timestamptz,
  PRIMARY KEY (worker, model_checksum)
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Repeated requests

CREATE TABLE requests (
  tenant resource_id NOT NULL,
  subject subject NOT NULL,
  request_id text NOT NULL CHECK (length(request_id) BETWEEN 1 AND 64),
  method text NOT NULL,
  -- sha256 of the request.
  request_digest sha256_hex NOT NULL,
  response bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant, subject, request_id)
);
CREATE INDEX ON requests (created_at);

-- ---------------------------------------------------------------------------------------------------------------------
-- Who may do what

DO $$
DECLARE
  tenanted text;
BEGIN
  -- The service sees one tenant at a time.
  FOREACH tenanted IN ARRAY ARRAY['vectors', 'contents', 'versions', 'evaluations', 'revocations', 'aliases', 'alias_targets',
    'personas', 'persona_revisions', 'persona_terms', 'activations', 'approvals', 'break_glass_uses', 'audit', 'requests'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', tenanted);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', tenanted);
    EXECUTE format('CREATE POLICY own_tenant ON %I TO persona_service
      USING (tenant = current_tenant()) WITH CHECK (tenant = current_tenant())', tenanted);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO persona_service', tenanted);
  END LOOP;
  -- Workers serve all tenants.
  FOREACH tenanted IN ARRAY ARRAY['vectors', 'contents', 'versions', 'revocations', 'personas', 'persona_revisions',
    'persona_terms'] LOOP
    EXECUTE format('CREATE POLICY watched ON %I FOR SELECT TO persona_watch USING (true)', tenanted);
    EXECUTE format('GRANT SELECT ON %I TO persona_watch', tenanted);
  END LOOP;
END $$;

GRANT DELETE ON aliases TO persona_service;

-- Answers to repeated requests are kept for a day, as the contract says, then swept for all tenants at once.
CREATE POLICY expired ON requests TO persona_watch USING (created_at < now() - interval '1 day') WITH CHECK (false);
GRANT SELECT (created_at), DELETE ON requests TO persona_watch;

DO $$
DECLARE
  changeable text;
  columns text;
BEGIN
  -- Rows change, but never become others: no part of a primary key does, nor when they were made.
  FOREACH changeable IN ARRAY ARRAY['tenants', 'models', 'vectors', 'aliases', 'personas', 'approvals', 'break_glass_uses'] LOOP
    SELECT string_agg(quote_ident(a.attname), ', ') INTO STRICT columns
      FROM pg_attribute a
      WHERE a.attrelid = changeable::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
        AND a.attname NOT IN ('created_at', 'xact')
        AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY (i.indkey));
    EXECUTE format('GRANT UPDATE (%s) ON %I TO persona_service', columns, changeable);
  END LOOP;
END $$;

ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON tenants TO persona_service
  USING (tenant = current_tenant() OR current_tenant() = 'platform')
  WITH CHECK (tenant = current_tenant() OR current_tenant() = 'platform');
CREATE POLICY watched ON tenants FOR SELECT TO persona_watch USING (true);
GRANT SELECT, INSERT ON tenants TO persona_service;
GRANT SELECT ON tenants TO persona_watch;

ALTER TABLE models ENABLE ROW LEVEL SECURITY;
ALTER TABLE models FORCE ROW LEVEL SECURITY;
CREATE POLICY readable ON models FOR SELECT TO persona_service, persona_watch USING (true);
CREATE POLICY platform_inserts ON models FOR INSERT TO persona_service WITH CHECK (current_tenant() = 'platform');
CREATE POLICY platform_updates ON models FOR UPDATE TO persona_service
  USING (current_tenant() = 'platform') WITH CHECK (current_tenant() = 'platform');
GRANT SELECT, INSERT ON models TO persona_service;
GRANT SELECT ON models TO persona_watch;

-- Heads are written by the trigger alone, which runs as the owner: FORCE binds the owner too, so it has policies of its own.
ALTER TABLE audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_heads FORCE ROW LEVEL SECURITY;
CREATE POLICY linked ON audit_heads TO persona_owner USING (true) WITH CHECK (true);
CREATE POLICY signed ON audit_heads FOR SELECT TO persona_auditor USING (true);
CREATE POLICY own_tenant ON audit_heads FOR SELECT TO persona_service USING (tenant = current_tenant());
GRANT SELECT ON audit_heads TO persona_auditor, persona_service;
-- Who signs sees that what was signed is still there, not what it says.
CREATE POLICY signed ON audit FOR SELECT TO persona_auditor USING (true);
GRANT SELECT (tenant, chain, sequence, hash) ON audit TO persona_auditor;

DO $$
DECLARE
  rooted text;
BEGIN
  FOREACH rooted IN ARRAY ARRAY['audit_roots', 'audit_root_heads', 'audit_keys'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', rooted);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', rooted);
    EXECUTE format('CREATE POLICY signing ON %I TO persona_auditor USING (true) WITH CHECK (true)', rooted);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO persona_auditor', rooted);
  END LOOP;
END $$;

ALTER TABLE revision_counter ENABLE ROW LEVEL SECURITY;
ALTER TABLE revision_counter FORCE ROW LEVEL SECURITY;
CREATE POLICY counted ON revision_counter TO persona_service, persona_watch USING (true) WITH CHECK (true);
GRANT SELECT ON revision_counter TO persona_service, persona_watch;
GRANT UPDATE (revision) ON revision_counter TO persona_service;
GRANT UPDATE (compacted) ON revision_counter TO persona_watch;

ALTER TABLE changes ENABLE ROW LEVEL SECURITY;
ALTER TABLE changes FORCE ROW LEVEL SECURITY;
CREATE POLICY told ON changes FOR INSERT TO persona_service
  WITH CHECK (tenant = current_tenant() OR current_tenant() = 'platform');
CREATE POLICY watched ON changes TO persona_watch USING (true);
GRANT INSERT ON changes TO persona_service;
GRANT SELECT, DELETE ON changes TO persona_watch;

ALTER TABLE workers ENABLE ROW LEVEL SECURITY;
ALTER TABLE workers FORCE ROW LEVEL SECURITY;
CREATE POLICY reported ON workers TO persona_watch USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO persona_watch;

-- A trigger runs for whoever changes its table, but to put it on another table takes this privilege: a service could else
-- have the owner's functions work on rows of its own making.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA registry FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_tenant TO persona_service, persona_watch, persona_auditor;
GRANT EXECUTE ON FUNCTION take_turn, model_is_used, approval_of, version_gate, persona_gate, glass_is_broken, manifest_in TO persona_service;
